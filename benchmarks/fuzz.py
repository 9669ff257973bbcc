"""Hostile files against the decoder: seeded mutants of real files, bombs and polyglots.

    python -m benchmarks.fuzz --mutants 5000 [--data ../shared/data]

Every file goes through the killable child under a memory and a time limit. The run prints how each
ended and one line of JSON, and fails where a file escaped as another exception than a refusal, took
longer than the limit, or where a child grew past its cap. The same seed makes the same mutants.
Real files are those of pydicom's wheel and, where it is there, of `dicom/` in the data.
"""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import PIL.Image
import pydicom.data
import typer
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from engine.imaging.decode import START_SECONDS, Decoder, Decoders
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import list_files

BUNDLED = Path(pydicom.data.__file__).parent / "test_files"
MAX_SOURCE = 600 << 10
CHUNK = 1 << 20
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
DECODABLE = 0.2  # of the files are still images: a decoder that refuses everything is no decoder
CHANGES = ("bytes", "extreme", "zeros", "splice", "cut", "insert", "repeat")
SHARES = (0.4, 0.15, 0.1, 0.1, 0.1, 0.1, 0.05)
IN_PART = "rendered, but for frames that were refused"


@dataclass
class Account:
    """How every file of a campaign ended."""

    ends: Counter[str] = field(default_factory=Counter)
    escaped: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    files: int = 0

    @property
    def accounted(self) -> bool:
        """Whether every file has exactly one end."""
        return sum(self.ends.values()) == self.files


def pictures() -> dict[str, bytes]:
    """Small pictures and volumes of the other formats, made here."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (64, 48), np.uint8)
    found = {}
    for name, image, more in (
        ("grey.png", PIL.Image.fromarray(grey), {}),
        ("deep.png", PIL.Image.fromarray(grey.astype(np.uint16) * 200), {}),
        ("colour.jpg", PIL.Image.fromarray(np.stack([grey] * 3, -1)), {}),
        ("pages.tiff", PIL.Image.fromarray(grey),
         {"save_all": True, "append_images": [PIL.Image.fromarray(grey)] * 3}),
        ("lzw.tiff", PIL.Image.fromarray(grey), {"compression": "tiff_lzw"}),
    ):  # fmt: skip
        out = io.BytesIO()
        image.save(out, {"jpg": "JPEG", "png": "PNG", "tiff": "TIFF"}[name.split(".")[1]], **more)
        found[name] = out.getvalue()
    volume = nifti((8, 9, 10), 4) + rng.integers(0, 999, 720).astype("<i2").tobytes()
    return found | {"volume.nii": volume, "volume.nii.gz": gzip.compress(volume, mtime=0)}


def nifti(shape: tuple[int, int, int], datatype: int) -> bytes:
    """A NIfTI-1 header of 352 bytes that claims a shape and a data type code."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, datatype, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    return bytes(head)


def sources(data: Path) -> dict[str, bytes]:
    """The images that mutants are made of, by name: every small file that is rendered."""
    found = pictures()
    folders = [folder for folder in (data / "dicom", BUNDLED) if folder.is_dir()]
    with Decoder() as decoder:
        for path in (p for folder in folders for p in list_files(folder)):
            if path.stat().st_size <= MAX_SOURCE and _rendered(decoder, path):
                found[path.name] = path.read_bytes()
    return dict(sorted(found.items()))


def _rendered(decoder: Decoder, path: Path) -> bool:
    try:
        return bool(decoder.decode(path, "middle").frames)
    except ImagingError:
        return False


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes, half of them in the first 2 KiB, where headers are.

    Half of the changes keep every length, so that the damage reaches past the parser.
    """
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        reach = max(1, min(len(out), 2048) if rng.random() < 0.5 else len(out))
        at, length = int(rng.integers(0, reach)), int(rng.integers(1, 65))
        change = rng.choice(CHANGES, p=SHARES)
        if change == "bytes":
            for place in rng.integers(0, reach, int(rng.integers(1, 9))):
                out[place : place + 1] = rng.bytes(1)
        elif change == "extreme":
            kind = ("<u2", ">u2", "<u4", ">u4")[int(rng.integers(0, 4))]
            value = EXTREMES[int(rng.integers(0, len(EXTREMES)))]
            word = np.array([value]).astype(kind).tobytes()
            out[at : at + len(word)] = word
        elif change == "zeros":
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif change == "splice":
            out[at : at + length * 8] = other[at : at + length * 8]
        elif change == "cut":
            del out[at : len(out) if rng.random() < 0.3 else at + length]
        elif change == "insert":
            out[at:at] = rng.bytes(length)
        else:
            out[at:at] = out[at : at + length * 16]
    return bytes(out)


def mutants(count: int, seed: int, data: Path) -> Iterator[tuple[str, bytes]]:
    """`count` named mutants; the same for one seed and one set of sources."""
    files = list(sources(data).items())
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        (name, one), (_, other) = (files[int(i)] for i in rng.integers(0, len(files), 2))
        yield f"{number}-{name}", mutate(one, other, rng)


def dicom(syntax: UID = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """A small DICOM image whose attributes may say anything."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.1", "2.25.1", "CR"
    ds.Rows = ds.Columns = 32
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.add_new("PixelData", "OB" if syntax.is_encapsulated else "OW", bytes(2048))
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    if syntax.is_encapsulated:
        ds["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def zeros(size: int, wbits: int) -> bytes:
    """`size` zero bytes deflated, without deflating them all: flushed blocks may be repeated."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflater.compress(bytes(CHUNK)) + deflater.flush(zlib.Z_FULL_FLUSH)
    again = deflater.compress(bytes(CHUNK)) + deflater.flush(zlib.Z_FULL_FLUSH)
    body = first + again * (size // CHUNK - 1) + deflater.flush()
    if wbits == -15:
        return body
    if wbits == 31:
        return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + body + struct.pack("<II", 0, size % 2**32)
    return b"\x78\x9c" + body + b"\0\0\0\1"


def png(width: int, height: int, compressed: bytes) -> bytes:
    """A grey PNG that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bombs() -> dict[str, bytes]:
    """Small files that ask for much memory, time or depth."""
    plain = dicom(DeflatedExplicitVRLittleEndian)
    meta_end = 144 + int.from_bytes(plain[140:144], "little")
    siz = struct.pack(">HHIIIIIIIIH", 41, 0, *(2**31 - 1,) * 2, 0, 0, *(2**31 - 1,) * 2, 0, 0, 1)
    stream = b"\xff\x4f\xff\x51" + siz + b"\x07\x01\x01\xff\xd9"
    segments = struct.pack("<HHH", 0, 1, 5) + struct.pack("<HHH", 1, 65535, 9) * 20_000
    loop = struct.pack("<HHH", 0, 1, 5) + struct.pack("<HHHH", 2, 65535, 6, 0) * 5_000
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
    nested = b"".join(
        struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        for _ in range(20_000)
    )
    long = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFFE)
    ifd = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 256, 4, 1, 9, 8)
    jpeg = b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\0\xff\xd9"
    volume = nifti((32, 32, 32), 4)
    return {
        "deflate 2 GiB": plain[:meta_end] + zeros(2 << 30, -15),
        "gzip 4 GiB": zeros(4 << 30, 31),
        "gzip volume 4 GiB": gzip.compress(volume) + zeros(4 << 30, 31),
        "volume of 32767 cubed": nifti((32767, 32767, 32767), 64) + bytes(999),
        "volume of no size": nifti((0, -5, 3), 4) + bytes(999),
        "huge rows": dicom(Rows=65535, Columns=65535, BitsAllocated=32),
        "frames 2^31": dicom(NumberOfFrames=str(2**31 - 1)),
        "frames of RLE": dicom(RLELossless, NumberOfFrames="60000", Rows=20000, Columns=20000,
                               PixelData=encapsulate([struct.pack("<16I", 2, 64, *[70] * 14)])),
        "codestream 2^31": dicom(JPEG2000Lossless, PixelData=encapsulate([stream])),
        "palette of lines": dicom(**palette, **segmented(segments)),
        "palette in a loop": dicom(**palette, **segmented(loop)),
        "nested 20,000 deep": plain[:meta_end].replace(b"1.99\0", b"1\0\0\0\0") + nested,
        "element of 4 GiB": dicom()[:-2060] + long + bytes(99),
        "png 30,000 squared": png(30_000, 30_000, zeros(900 << 20, 15)),
        "png 2^31 wide": png(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
        "png of more than it says": png(64, 64, zeros(2 << 30, 15)),
        "tiff in a loop": ifd,
        "jpeg of 65,500 squared": jpeg,
    }  # fmt: skip


def segmented(data: bytes) -> dict[str, bytes]:
    """The same segmented palette for three colours."""
    return {f"Segmented{c}PaletteColorLookupTableData": data for c in ("Red", "Green", "Blue")}


def polyglots() -> dict[str, bytes]:
    """Files that are two things at once, or not what their start says."""
    whole, shown = dicom(), pictures()
    grey = shown["grey.png"]
    return {
        "program and DICOM": (b"MZ" + bytes(58) + b"\x80\0\0\0").ljust(128, b"\0") + whole[128:],
        "ELF and DICOM": b"\x7fELF".ljust(128, b"\0") + whole[128:],
        "TIFF and DICOM": b"II*\0\x08\0\0\0".ljust(128, b"\0") + whole[128:],
        "PNG and DICOM": grey[:128] + whole[128:],
        "gzip and DICOM": b"\x1f\x8b\x08".ljust(128, b"\0") + whole[128:],
        "PNG and zip": grey + b"PK\x05\x06" + bytes(18),
        "JPEG and script": shown["colour.jpg"] + b"<script>alert(1)</script>",
        "NIfTI and DICOM": whole[:344] + b"n+1\0" + whole[348:],
        "gzip of a gzip": gzip.compress(gzip.compress(nifti((4, 4, 4), 4) + bytes(128))),
        "PDF": b"%PDF-1.7\n" + bytes(500),
        "web page": b"<!doctype html>" + bytes(500),
        "nothing": b"",
        "one byte": b"\x02",
        "group 2 and noise": b"\x02\0\0\0" + np.random.default_rng(1).bytes(4000),
        "magic alone": bytes(128) + b"DICM",
    }


def attack(
    files: Iterator[tuple[str, bytes]], workers: int, timeout_s: float, memory: int
) -> Account:
    """Decode every file with the rule "all"; never raises for a file."""
    account = Account()

    def run(decoder: Decoder, named: tuple[str, bytes]) -> tuple[str, str, float]:
        name, data = named
        path = folder / f"{id(decoder)}"
        path.write_bytes(data)
        started = time.monotonic()
        try:
            refused = decoder.decode(path, "all").refused
            end = IN_PART if refused else "rendered"
        except ImagingError as error:
            end = str(error)
        except Exception as error:
            end = f"escaped: {type(error).__name__}"
        return name, end, time.monotonic() - started

    with tempfile.TemporaryDirectory(prefix="triptych-fuzz-") as made:
        folder = Path(made)
        with Decoders(workers, timeout_s, memory) as decoders:
            for name, end, seconds in decoders.map(run, files):
                account.files += 1
                account.ends[end] += 1
                account.slowest = max(account.slowest, (seconds, name))
                if end.startswith("escaped"):
                    account.escaped.append(f"{name}: {end}")
    return account


def campaign(
    count: int, seed: int, workers: int, timeout_s: float, memory: int, data: Path
) -> dict[str, Any]:
    """Mutants, bombs and polyglots in one run: the line of JSON, with "ok" as the verdict."""
    hostile = [*bombs().items(), *polyglots().items()]

    def files() -> Iterator[tuple[str, bytes]]:
        yield from hostile
        yield from mutants(count, seed, data)

    account = attack(files(), workers, timeout_s, memory)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    seconds, slowest = account.slowest
    rendered = account.ends["rendered"] + account.ends[IN_PART]
    ok = (
        not account.escaped
        and account.accounted
        and account.files == count + len(hostile)
        and seconds <= timeout_s + START_SECONDS
        and peak <= memory
        and rendered > DECODABLE * account.files
    )
    return {
        "benchmark": "fuzz", "seed": seed, "mutants": count, "hostile": len(hostile),
        "rendered": rendered, "refused": account.files - rendered,
        "ends": dict(account.ends.most_common()), "escaped": account.escaped,
        "accounted": account.accounted, "slowest_s": round(seconds, 2), "slowest": slowest,
        "limit_s": timeout_s, "peak_mib": peak >> 20, "cap_mib": memory >> 20, "ok": ok,
    }  # fmt: skip


def main(
    mutants: Annotated[int, typer.Option(help="How many mutants.", min=0)] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of the mutants.")] = 0,
    workers: Annotated[int, typer.Option(help="Children side by side.", min=1)] = 2,
    timeout: Annotated[float, typer.Option(help="Seconds a file may take.")] = 20.0,
    memory: Annotated[int, typer.Option(help="MiB a child may take.")] = 1024,
    data: Annotated[Path, typer.Option(help="Folder with dicom/ in it.")] = Path("../shared/data"),
) -> None:
    """Print the account and its line of JSON; exit 1 where a promise was broken."""
    started = time.time()
    result = campaign(mutants, seed, workers, timeout, memory << 20, data)
    print(f"{mutants} mutants, {result['hostile']} bombs and polyglots, seed {seed}")
    for end, count in result["ends"].items():
        print(f"  {count:6d}  {end}")
    slowest = f"slowest {result['slowest_s']} s ({result['slowest']}), limit {timeout:g} s"
    largest = f"largest child {result['peak_mib']} MiB, cap {memory} MiB"
    print(f"{time.time() - started:.0f} s; {slowest}; {largest}")
    print(json.dumps(result))
    if not result["ok"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
