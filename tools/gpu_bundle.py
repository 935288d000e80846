"""Packs what a GPU machine without a network lacks into one small file: `python -m tools.gpu_bundle OUT.tar.xz`.

ONNX Runtime's GPU package, reduced to one GPU architecture (the machine code of others is zeroed, so that it
compresses away; offsets stay), and a few Python packages. Takes some minutes. `python -m tools.gpu_check --bundle`
takes the file as it is; for other uses, unpack it into a folder on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ONNXRUNTIME = "1.27.0"
"""The first release that is built for CUDA 13, and the smallest complete one."""
ALONE, WITH_DEPENDENCIES = ("onnx-graphsurgeon",), ("pydantic>=2.7",)
"""Packages of ours that the usual machine with PyTorch and CuPy has not; graphsurgeon's own dependencies it has."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64")
FATBIN_MAGIC, MACHINE_CODE = 0xBA55ED50, 2
NOT_NEEDED = ("onnxruntime/transformers", "onnxruntime/quantization", "onnxruntime/tools")


def sections(library: Path) -> Iterator[tuple[int, int]]:
    """Yields offset and size of the sections of a shared library that hold GPU code."""
    listing = subprocess.run(["readelf", "-SW", str(library)], check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        found = re.match(r"\s*\[\s*\d+\]\s+(\S*nv_fatbin\S*|__nv_relfatbin)\s+\S+\s+(\S+)\s+(\S+)\s+(\S+)", line)
        if found:
            yield int(found[3], 16), int(found[4], 16)


def keep_architecture(data: bytearray, offset: int, size: int, architecture: int) -> int:
    """Zeroes all code in a section but the machine code of one architecture; returns the bytes that were kept.

    A section is a row of fat binaries, each with a header (magic, version, header size, size) and entries (kind, header
    size, payload size, ..., architecture).
    """
    kept, at, end = 0, offset, offset + size
    while at < end - 16:
        if struct.unpack_from("<I", data, at)[0] != FATBIN_MAGIC:
            at += 8
            continue
        _, header, length = struct.unpack_from("<HHQ", data, at + 4)
        entry, stop = at + header, at + header + length
        while entry < stop:
            kind, _, head, payload, _, _, _, _, found = struct.unpack_from("<HHIQIIHHI", data, entry)
            if kind == MACHINE_CODE and found == architecture:
                kept += payload
            else:
                data[entry + head : entry + head + payload] = bytes(payload)
            entry += head + payload
        at = (stop + 7) // 8 * 8
    return kept


def reduce_library(library: Path, architecture: int) -> None:
    """Keeps one architecture of a library; refuses to leave none."""
    data = bytearray(library.read_bytes())
    found = list(sections(library))
    kept = sum(keep_architecture(data, offset, size, architecture) for offset, size in found)
    if found and kept == 0:
        sys.exit(f"{library.name} has no code for architecture {architecture}")
    library.write_bytes(data)


def download(requirements: list[str], python: str, folder: Path) -> None:
    """Downloads wheels; pip's further options may stand among the requirements."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "-d", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *requirements], check=True)


def pack(site: Path, output: Path, preset: str) -> None:
    """Compresses a folder; the filter for machine code and the large dictionary are worth a third."""
    output.parent.mkdir(parents=True, exist_ok=True)
    archive = subprocess.Popen(["tar", "-C", str(site), "-cf", "-", "."], stdout=subprocess.PIPE)
    with output.open("wb") as stream:
        lzma = f"--lzma2=preset={preset},dict=128MiB"
        subprocess.run(["xz", "--x86", lzma, "-c"], stdin=archive.stdout, stdout=stream, check=True)
    if archive.wait() != 0:
        sys.exit("tar failed")


def main() -> None:
    """Builds the file that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_bundle", description="Packs what a GPU machine lacks.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--onnxruntime", default=ONNXRUNTIME, help="version of onnxruntime-gpu (default: %(default)s)")
    parser.add_argument("--architecture", type=int, default=90, help="GPU architecture to keep (default: %(default)s)")
    parser.add_argument("--python", default="3.12", help="Python of the GPU machine (default: %(default)s)")
    parser.add_argument("--preset", default="9e", help="of xz (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels, site = Path(folder) / "wheels", Path(folder) / "site"
        download(["--no-deps", f"onnxruntime-gpu=={arguments.onnxruntime}", *ALONE], arguments.python, wheels)
        download([*WITH_DEPENDENCIES], arguments.python, wheels)
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(site)
        for name in NOT_NEEDED:
            shutil.rmtree(site / name, ignore_errors=True)
        for library in (site / "onnxruntime" / "capi").glob("libonnxruntime_providers_*"):
            if "tensorrt" in library.name:
                library.unlink()
            elif "cuda" in library.name:
                reduce_library(library, arguments.architecture)
        pack(site, arguments.output, arguments.preset)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
