"""The Vagrantfile without a machine: Vagrant itself takes it for both providers, and it is what config.yaml describes.

Neither VirtualBox nor libvirtd is asked for anything.  That the machines come up is the tier `vagrant`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from etcdops import configfile
from etcdops.layout import ROOT
from tests.hosts import install

PROVIDERS = ("virtualbox", "libvirt")
PACKAGES = ("vagrant", "vagrant-libvirt")
VBOXMANAGE = (
    "#!/bin/sh\necho 7.0.20r163906\n"  # all that Vagrant wants to hear of it before it reads a provider's settings
)

# Stands in for Vagrant: takes every word of the Vagrantfile, and says what it was given as JSON.
RECORDER = """
require "json"
class Section
  def initialize; @said = {}; end
  def method_missing(name, *words, **named, &block)
    key = name.to_s.chomp("=")
    if block
      block.call((@said[key] ||= {})[words.first] = Section.new)
    elsif words.empty?
      @said[key] ||= Section.new
    else
      @said[key] = named.empty? ? words.last : named
    end
  end
  def respond_to_missing?(*) = true
  def to_json(*rest) = @said.to_json(*rest)
end
module Vagrant
  def self.configure(_) = Section.new.tap { |section| yield section }.then { |section| puts section.to_json }
end
load ARGV[0]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vagrant is installed; a folder with what it needs beside the Vagrantfile."""
    install(PACKAGES)
    folder = tmp_path_factory.mktemp("vagrant")
    (folder / "bin").mkdir()
    (folder / "bin/VBoxManage").write_text(VBOXMANAGE)
    (folder / "bin/VBoxManage").chmod(0o755)
    return folder


def validate(place: Path, text: str, provider: str) -> subprocess.CompletedProcess[str]:
    (place / "Vagrantfile").write_text(text)
    environment = {
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "HOME": str(place),
        "VAGRANT_DEFAULT_PROVIDER": provider,
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }
    return subprocess.run(["vagrant", "validate"], cwd=place, env=environment, capture_output=True, text=True)


def described(**environment: str) -> dict[str, Any]:
    """What the Vagrantfile says with these variables set."""
    argv = ["ruby", "-e", RECORDER, ROOT / "Vagrantfile"]
    done = subprocess.run(
        argv, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)["vm"]
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vagrant_takes_it(place: Path, provider: str) -> None:
    done = validate(place, (ROOT / "Vagrantfile").read_text(), provider)
    assert (done.returncode, done.stdout) == (0, "Vagrantfile validated successfully.\n"), done


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vagrant_would_not_take_a_setting_that_there_is_not(place: Path, provider: str) -> None:
    done = validate(
        place, (ROOT / "Vagrantfile").read_text().replace(f"{provider}.cpus", f"{provider}.cpu_s"), provider
    )
    assert done.returncode == 1
    assert "cpu_s" in done.stderr


@pytest.mark.usefixtures("place")
def test_config_yaml_describes_the_machines() -> None:
    machines = described()["define"]
    networks = {name: machine["vm"]["network"] for name, machine in machines.items()}
    members = configfile.load(ROOT / "config.yaml").members
    assert {name: network["ip"] for name, network in networks.items()} == {each.name: each.address for each in members}
    assert {name: machine["vm"]["hostname"] for name, machine in machines.items()} == {name: name for name in machines}
    assert {network["hostname"] for network in networks.values()} == {True}  # or its name were 127.0.2.1 to it


@pytest.mark.usefixtures("place")
def test_the_environment_has_its_way() -> None:
    found = described(
        ETCD_LAB_BOX="mine", ETCD_LAB_NODES="5", ETCD_LAB_MEMORY="2048", ETCD_LAB_CPUS="2", ETCD_LAB_DRIVER="qemu"
    )
    assert found["box"] == "mine"
    assert found["synced_folder"]["disabled"] is True
    assert [machine["vm"]["network"]["ip"] for machine in found["define"].values()][-1] == "192.168.40.104"
    virtualbox, libvirt = (found["provider"][name] for name in PROVIDERS)
    for provider in (virtualbox, libvirt):
        assert (provider["memory"], provider["cpus"]) == (2048, 2)
    assert (libvirt["driver"], libvirt["cpu_mode"]) == ("qemu", "custom")
    assert "cpu_mode" not in described()["provider"]["libvirt"]
