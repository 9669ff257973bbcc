"""How fast DICOM becomes pixels, what a worker takes, and who gets the traps right.

    pip install --no-deps --target converters dicom2jpg SimpleITK
    python -m benchmarks.imaging --converters converters [--data ../shared/data]

Files are every image of pydicom's wheel and of `dicom/` in the data that bare pydicom decodes. The
limit is `pydicom.dcmread` and `pixel_array` in two processes, without any rendering; ours goes
through the killable child, windows included, and hands the pixels to the parent. Two public
converters (dicom2jpg, which needs OpenCV, and SimpleITK with its intensities rescaled) and the
recipe of pydicom's documentation run beside them where they are installed; an absent one is named.
Passes are interleaved; wall time is disturbed by neighbours on the machine, CPU time (of this
process and its workers) hardly. Each trap is decided by pixels computed here from the standard's
formulas alone. Ends with one line of JSON.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pydicom.data
import typer
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from engine.imaging.decode import Decoder, Decoders
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import list_files

BUNDLED = Path(pydicom.data.__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
Convert = Callable[[Path], np.ndarray | None]


# What is compared: a path to the frames' pixels, None where a file is not read.


def bare(path: Path) -> np.ndarray:
    """The limit: stored values of the middle frame, not rendered."""
    ds = dcmread(path)
    return np.asarray(pixel_array(ds, index=int(ds.get("NumberOfFrames", 1) or 1) // 2))


def recipe(path: Path) -> np.ndarray:
    """pydicom's documented functions, and the usual stretch from minimum to maximum."""
    ds = dcmread(path)
    values = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds).astype(float)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-9) * 255
    inverted = ds.PhotometricInterpretation == "MONOCHROME1"
    return np.asarray(255 - values if inverted else values).astype(np.uint8)


def dicom2jpg(path: Path) -> np.ndarray | None:
    """dicom2jpg's own array in place of a file."""
    import dicom2jpg as converter

    found = converter.io2img(io.BytesIO(path.read_bytes()))
    return None if found is None else np.asarray(found)


def simpleitk(path: Path) -> np.ndarray:
    """SimpleITK's reader (GDCM in process) and RescaleIntensity to 8 bits."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() == 1:
        image = sitk.Cast(sitk.RescaleIntensity(image, 0, 255), sitk.sitkUInt8)
    return np.asarray(sitk.GetArrayFromImage(image))


NEEDS = {dicom2jpg: ("dicom2jpg", "cv2"), simpleitk: ("SimpleITK",)}


def attempt(convert: Convert, path: Path) -> bool:
    """Whether a converter reads a file; what it prints is of no interest."""
    try:
        return convert(path) is not None
    except Exception:
        return False


def quiet(folder: str | None) -> None:
    """Make a worker find the converters and keep it from printing."""
    if folder:
        sys.path.append(folder)
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


# Speed


def children() -> list[int]:
    """Process ids of our workers."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def cpu_seconds() -> float:
    """CPU time of this process and of its running workers."""
    total = 0
    for pid in ("self", *children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def peak_mib(pid: int) -> float:
    """The largest resident size of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Processes:
    """A converter in worker processes, as a data loader would run it."""

    def __init__(self, convert: Convert, workers: int, folder: str | None) -> None:
        self.convert = convert
        self.pool = ProcessPoolExecutor(workers, initializer=quiet, initargs=(folder,))

    def run(self, paths: list[Path]) -> int:
        """How many of the files are read."""
        return sum(self.pool.map(partial(attempt, self.convert), paths, chunksize=4))

    def close(self) -> None:
        self.pool.shutdown()


class Ours:
    """The decoders of `engine.imaging`, a killable child each."""

    def __init__(self, workers: int) -> None:
        self.decoders = Decoders(workers)

    def run(self, paths: list[Path]) -> int:
        """How many of the files are read."""
        return sum(self.decoders.map(_decoded, paths))

    def close(self) -> None:
        self.decoders.__exit__(None, None, None)


def _decoded(decoder: Decoder, path: Path) -> bool:
    try:
        return bool(decoder.decode(path, "middle").frames)
    except ImagingError:
        return False


def measure(
    names: dict[str, Convert | None],
    groups: dict[str, list[Path]],
    workers: int,
    passes: int,
    folder: str | None,
) -> dict[str, Any]:
    """Files a second by wall and CPU time, per group; None stands for ours. Passes interleave."""
    runners: dict[str, Processes | Ours] = {
        name: Ours(workers) if convert is None else Processes(convert, workers, folder)
        for name, convert in names.items()
    }  # fmt: skip
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    read: dict[str, int] = dict.fromkeys(runners, 0)
    pids: dict[str, set[int]] = {}
    for name, runner in runners.items():  # workers start, and imports are over
        before = set(children())
        runner.run([path for group in groups.values() for path in group])
        pids[name] = set(children()) - before
    for _ in range(passes):
        for name, runner in runners.items():
            read[name] = 0
            for group, paths in groups.items():
                started, cpu = time.perf_counter(), cpu_seconds()
                read[name] += runner.run(paths)
                took = time.perf_counter() - started, cpu_seconds() - cpu
                seconds.setdefault((name, group), []).append(took)
    found = {}
    for name, runner in runners.items():
        sums = _sums([seconds[name, group] for group in groups])
        limit = _sums([seconds["bare", group] for group in groups])
        files = sum(map(len, groups.values()))
        found[name] = {
            "read": read[name],
            "files_per_s": round(files / median(sums[0]), 1),
            "cpu_ms_per_file": round(median(sums[1]) / files * 1000, 3),
            "groups_cpu_ms": {
                g: round(median(t[1] for t in seconds[name, g]) / len(p) * 1000, 3)
                for g, p in groups.items()
            },
            "ratio_wall": round(median(b / a for a, b in zip(sums[0], limit[0])), 3),
            "ratio_cpu": round(median(b / a for a, b in zip(sums[1], limit[1])), 3),
            "peak_mib_per_worker": round(max(map(peak_mib, pids[name] & set(children()))), 1),
        }
        runner.close()
    return found


def _sums(times: list[list[tuple[float, float]]]) -> list[list[float]]:
    """Wall and CPU time of each pass over all groups."""
    return [[sum(t[which] for t in one) for one in zip(*times)] for which in (0, 1)]


def files(data: Path) -> dict[str, list[Path]]:
    """What bare pydicom decodes and we take for an image, by kind of encoding."""
    folders = [folder for folder in (data / "dicom", BUNDLED) if folder.is_dir()]
    groups: dict[str, list[Path]] = {"native": [], "compressed": []}
    with Decoder() as decoder:
        for path in (p for folder in folders for p in list_files(folder)):
            if attempt(bare, path) and _decoded(decoder, path):
                syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
                groups["compressed" if syntax.is_compressed else "native"].append(path)
    return groups


# Traps: a file, and what its frames must look like by the standard's formulas.

RAMP = np.arange(4096).reshape(64, 64)


def image(stored: np.ndarray, **attributes: Any) -> Dataset:
    """A 16-bit CT-like file of (H, W) or (N, H, W) stored values."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "2.25.1"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Modality, ds.PatientID, ds.StudyInstanceUID = "CR", "P1", "2.25.2"
    ds.SeriesInstanceUID = "2.25.3"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.add_new("PixelData", "OW", stored.astype("<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """C.11.2.1.2.1 over 0..255."""
    return np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


def exact(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """C.11.2.1.3.2 over 0..255."""
    return np.clip(((values - centre) / width + 0.5) * 255, 0, 255)


def traps() -> dict[str, tuple[Dataset, list[np.ndarray], float]]:
    """By name: the file, its frames as they must look, and the grey levels of leeway."""
    window = {"WindowCenter": "2000", "WindowWidth": "1000"}
    shown = linear(RAMP, 2000, 1000)
    padded = RAMP.copy()
    padded[:8] = 0
    hot = RAMP.copy()
    hot[0, :4] = 65535
    voi = [_frame_voi(c) for c in (1000, 3000)]
    entries = (np.arange(4096) * 16, 65535 - np.arange(4096) * 16, np.full(4096, 32768))
    colours = np.stack([e[RAMP] >> 8 for e in entries], -1)
    palette = image(RAMP, PhotometricInterpretation="PALETTE COLOR")
    for colour, entry in zip(("Red", "Green", "Blue"), entries):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [4096, 0, 16])
        setattr(palette, f"{colour}PaletteColorLookupTableData", entry.astype("<u2").tobytes())
    ybr = np.stack([RAMP % 256, np.full_like(RAMP, 90), RAMP // 16], -1)
    y, b, r = (ybr[..., i].astype(float) for i in range(3))
    rgb = np.stack([y + 1.402 * (r - 128), y - 0.344136 * (b - 128) - 0.714136 * (r - 128),
                    y + 1.772 * (b - 128)], -1)  # fmt: skip
    colour = image(RAMP, PhotometricInterpretation="YBR_FULL", SamplesPerPixel=3,
                   PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7)  # fmt: skip
    colour.PixelData = ybr.astype(np.uint8).tobytes()
    signed = image(RAMP - 1024, PixelRepresentation=1, RescaleSlope="1", RescaleIntercept="0",
                   WindowCenter="40", WindowWidth="400", Modality="CT")  # fmt: skip
    big = image(RAMP, **window)
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big.PixelData = RAMP.astype(">u2").tobytes()
    half = RAMP[20:40] % 500 + 1800  # reaches neither end of its window
    low, high = np.percentile(hot, (0.5, 99.5))
    return {
        "analytic range": (image(half, **window), [linear(half, 2000, 1000)], 1),
        "MONOCHROME1": (image(RAMP, PhotometricInterpretation="MONOCHROME1", **window),
                        [255 - shown], 1),
        "SIGMOID": (image(RAMP, VOILUTFunction="SIGMOID", **window),
                    [255 / (1 + np.exp(-4 * (RAMP - 2000) / 1000))], 1),
        "LINEAR_EXACT": (image(RAMP, WindowCenter="2000", WindowWidth="16",
                               VOILUTFunction="LINEAR_EXACT"), [exact(RAMP, 2000, 16)], 1),
        "LINEAR": (image(RAMP, WindowCenter="2000", WindowWidth="16"), [linear(RAMP, 2000, 16)], 1),
        "padding": (image(padded, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1",
                          **window), [np.where(padded == 0, 0, 255 - shown)], 1),
        "per-frame windows": (image(np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=voi),
                              [linear(RAMP, 1000, 500), linear(RAMP, 3000, 500)], 1),
        "palette": (palette, [colours], 1),
        "YBR": (colour, [np.clip(rgb, 0, 255)], 2),
        "16-bit without window": (image(hot), [exact(hot, (low + high) / 2, high - low)], 2),
        "signed pixels": (signed, [linear(RAMP - 1024, 40, 400)], 1),
        "big-endian": (big, [shown], 1),
    }  # fmt: skip


def _frame_voi(centre: int) -> Dataset:
    voi, group = Dataset(), Dataset()
    voi.WindowCenter, voi.WindowWidth = str(centre), "500"
    group.FrameVOILUTSequence = [voi]
    return group


def verdict(found: np.ndarray | None, expected: list[np.ndarray], leeway: float) -> str:
    """ "right", or how far the worst pixel of the frames is off."""
    if found is None:
        return "not read"
    frames = found if found.ndim > expected[0].ndim else found[None]
    if frames.shape != (len(expected), *expected[0].shape):
        return "wrong shape"
    off = max(np.abs(f.astype(float) - e).max() for f, e in zip(frames, expected))
    return "right" if off <= leeway else f"off by {off:.0f}"


def judge(convert: Convert, folder: Path) -> dict[str, str]:
    """What a converter makes of every trap."""
    found = {}
    for name, (ds, expected, leeway) in traps().items():
        path = folder / "trap.dcm"
        big = ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        ds.save_as(path, implicit_vr=False, little_endian=not big, enforce_file_format=True)
        try:
            found[name] = verdict(convert(path), expected, leeway)
        except Exception as error:
            found[name] = f"not read: {type(error).__name__}"
    return found


def table_of_traps(names: dict[str, Convert | None], folder: str | None) -> dict[str, Any]:
    """Every converter's verdicts, by name; converters run in a process of their own."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made, Decoder() as decoder:
        for name, convert in names.items():
            if name == "bare":
                continue
            if convert is None:

                def ours(path: Path) -> np.ndarray:
                    frames = [f.pixels for f in decoder.decode(path, "all").frames]
                    return np.stack(frames) if len(frames) > 1 else frames[0]

                found[name] = judge(ours, Path(made))
                continue
            with ProcessPoolExecutor(1, initializer=quiet, initargs=(folder,)) as pool:
                found[name] = pool.submit(judge, convert, Path(made)).result()
    return found


def main(
    workers: Annotated[int, typer.Option(help="Processes side by side.", min=1)] = 2,
    passes: Annotated[int, typer.Option(help="Passes over the files.", min=1)] = 5,
    converters: Annotated[Path | None, typer.Option(help="Folder they are installed in.")] = None,
    data: Annotated[Path, typer.Option(help="Folder with dicom/ in it.")] = Path("../shared/data"),
) -> None:
    """Print speed, memory and traps, then one line of JSON."""
    warnings.simplefilter("ignore")
    folder = str(converters.absolute()) if converters else None
    if folder:
        sys.path.append(folder)
    names: dict[str, Convert | None] = {"bare": bare, "triptych": None, "pydicom recipe": recipe}
    for convert, modules in NEEDS.items():
        absent = [m for m in modules if find_spec(m) is None]
        if absent:
            print(f"{convert.__name__} is left out: {', '.join(absent)} not installed")
        else:
            names[convert.__name__] = convert
    groups = files(data)
    speed = measure(names, groups, workers, passes, folder)
    judged = table_of_traps(names, folder)
    counts = ", ".join(f"{len(p)} {g}" for g, p in groups.items())
    load = os.getloadavg()[0]
    print(f"{counts} files, {workers} workers, median of {passes} passes, load {load:.1f}")
    heads = ("read", "files/s", "of bare", "CPU ms", "of bare", "MiB")
    print(f"{'':16s}" + "".join(f"{head:>9s}" for head in heads))
    for name, s in speed.items():
        print(
            f"{name:16s}{s['read']:9d}{s['files_per_s']:9.1f}{s['ratio_wall']:9.2f}"
            f"{s['cpu_ms_per_file']:9.2f}{s['ratio_cpu']:9.2f}{s['peak_mib_per_worker']:9.0f}"
        )
    print("\n" + f"{'':24s}" + "".join(f"{name:>18s}" for name in judged))
    for trap in traps():
        print(f"{trap:24s}" + "".join(f"{v[trap][:17]:>18s}" for v in judged.values()))
    print(json.dumps({"benchmark": "imaging", "workers": workers, "passes": passes, "load": load,
                      "files": {g: len(p) for g, p in groups.items()}, "speed": speed,
                      "traps": judged}))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
