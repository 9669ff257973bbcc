"""Phantoms as DICOM files, with every type 1 and 2 attribute of their IOD (PS3.3 annex A).

Each file says in its header that it is synthetic and what made it; names and ids are plainly fake.
The same phantom gives the same bytes. Its truth lies beside it as `<file>.truth.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from generators.phantoms import KINDS, draw
from generators.phantoms.bank import shown_kind
from generators.phantoms.base import GENERATOR, VERSION, Phantom
from generators.phantoms.dicom_codes import code_item, decimal, region_item, uid
from generators.phantoms.dicom_light import add_dermoscopy, add_fundus, add_microscopy, add_oct
from generators.phantoms.segmentation import write_segmentation

_STORAGE = "1.2.840.10008.5.1.4.1.1."


TRUTH, MADE = ".truth.json", ".drawn.json"  # what lies beside a file
DATE, TIME = "20000101", "120000"


CT_INTERCEPT = -1024


def write_dicom(
    phantom: Phantom,
    path: Path,
    patient: str,
    uid_seed: str | int,
    made: Mapping[str, Any] | None = None,
    original: Phantom | None = None,
) -> None:
    """Write the phantom and its truth, each whole or not at all.

    `patient` is the fake patient's number ("0001"); `uid_seed` keeps the UIDs of two cohorts apart.
    The truth goes first, so a DICOM file that exists has one. `made` is what it was drawn from,
    where that is more than its number (a layout, a change), written as `<file>.drawn.json`; of a
    twin the `original` is named in its header.
    """
    dataset = to_dataset(phantom, patient, uid_seed)
    if original is not None:
        _add_original(dataset, to_dataset(original, patient, uid_seed))
    for end, told in ((TRUTH, phantom.truth.to_dict()), (MADE, made)):
        if told is not None:
            data = json.dumps(told, sort_keys=True, indent=1).encode()
            _write_whole(path.with_name(path.name + end), data)
    partial = path.with_name(f".{path.name}.partial")
    dataset.save_as(partial, enforce_file_format=True)
    partial.replace(path)


def _add_original(ds: Dataset, original: Dataset) -> None:
    """Whose twin it is: derivation image module (C.7.6.1.1.3), in the same series."""
    ds.InstanceNumber = 2
    ds.DerivationDescription += "; the same as its source image but for what its truth says"
    source = Dataset()
    source.ReferencedSOPClassUID = original.SOPClassUID
    source.ReferencedSOPInstanceUID = original.SOPInstanceUID
    ds.SourceImageSequence = [source]


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def to_dataset(phantom: Phantom, patient: str, uid_seed: str | int) -> Dataset:
    """The phantom as a complete dataset with file meta information."""
    kind = KINDS[shown_kind(phantom.truth)]
    sop_class, add = IODS[kind.dicom]
    ds = Dataset()
    ds.SOPClassUID = UID(_STORAGE + sop_class)
    label = kind.name.upper() if "-" in kind.name else kind.dicom
    who = (uid_seed, label, patient)
    ds.SOPInstanceUID = uid("instance", *who, phantom.seed, phantom.pixels.tobytes().hex())
    _add_patient_and_study(ds, kind.dicom, label, patient, who, phantom)
    _add_provenance(ds, phantom)
    _add_pixels(ds, phantom)
    add(ds, phantom)
    ds.file_meta = _file_meta(ds)
    return ds


def _file_meta(ds: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation", GENERATOR, VERSION)
    meta.ImplementationVersionName = f"TRIPTYCH_{VERSION}"
    return meta


def _add_patient_and_study(
    ds: Dataset, code: str, label: str, patient: str, who: tuple[Any, ...], phantom: Phantom
) -> None:
    """Patient, general study, general series and general image modules (C.7.1 to C.7.6.1)."""
    ds.PatientName, ds.PatientID = f"PHANTOM^{patient}", f"PHANTOM-{label}-{patient}"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyInstanceUID = uid("study", *who, phantom.seed)
    ds.SeriesInstanceUID = uid("series", *who, phantom.seed)
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = DATE
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = TIME
    ds.ReferringPhysicianName = ds.AccessionNumber = ""
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = "1", 1, 1, 1
    ds.Modality, ds.BodyPartExamined = code, phantom.truth.anatomy.upper()
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.PatientOrientation = ["L", "F"] if ds.Modality == "DX" else ""


def _add_provenance(ds: Dataset, phantom: Phantom) -> None:
    """Equipment (C.7.5.1), and that the data are synthetic, by what (C.12.1.1)."""
    ds.Manufacturer, ds.ManufacturerModelName = GENERATOR, "phantom"
    ds.SoftwareVersions, ds.DeviceSerialNumber = VERSION, "0"
    ds.SyntheticData = "YES"
    ds.DerivationDescription = (
        f"Synthetic image drawn by {GENERATOR} version {VERSION}, seed {phantom.seed}, "
        f"difficulty {phantom.difficulty:g}"
    )
    equipment = Dataset()
    equipment.Manufacturer, equipment.SoftwareVersions = GENERATOR, VERSION
    equipment.PurposeOfReferenceCodeSequence = [
        code_item("109100", "DCM", "Synthesizing Equipment")
    ]
    ds.ContributingEquipmentSequence = [equipment]


def _add_pixels(ds: Dataset, phantom: Phantom) -> None:
    """Image pixel module (C.7.6.3), and the window where the phantom has one."""
    colour = phantom.pixels.ndim == 3
    intercept = CT_INTERCEPT if phantom.truth.modality == "CT" else 0
    eight_bit = phantom.window is None
    stored = np.clip(phantom.pixels.astype(np.int64) - intercept, 0, 255 if eight_bit else 65535)
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = stored.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8 if eight_bit else 16
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    data = stored.astype(np.uint8 if eight_bit else "<u2").tobytes()
    ds.add_new("PixelData", "OB" if eight_bit else "OW", data + b"\0" * (len(data) % 2))
    if phantom.window is not None:
        ds.WindowCenter, ds.WindowWidth = (f"{value:.10g}" for value in phantom.window)
        ds.VOILUTFunction = "LINEAR"


def _add_plane(ds: Dataset, phantom: Phantom) -> None:
    """Frame of reference and image plane modules (C.7.4.1, C.7.6.2): one axial slice."""
    ds.FrameOfReferenceUID = uid("frame of reference", ds.StudyInstanceUID)
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = "HFS"
    ds.PixelSpacing = [decimal(phantom.pixel_spacing_mm)] * 2
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [decimal(-phantom.pixel_spacing_mm * n / 2)
                               for n in phantom.pixels.shape[::-1]] + ["0"]  # fmt: skip
    ds.SliceThickness = "5"


def _add_ct(ds: Dataset, phantom: Phantom) -> None:
    """CT image module (C.8.2.1)."""
    _add_plane(ds, phantom)
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(CT_INTERCEPT), "1", "HU"
    ds.KVP = "120"


def _add_mr(ds: Dataset, phantom: Phantom) -> None:
    """MR image module (C.8.3.1). Timing is type 2: the phantom names its sequence in the truth."""
    _add_plane(ds, phantom)
    ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    inverted = phantom.truth.attributes.get("sequence") == "FLAIR"
    ds.ScanningSequence = ["SE", "IR"] if inverted else "SE"
    ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "NONE", "", "2D"
    ds.RepetitionTime = ds.EchoTime = ds.EchoTrainLength = None
    if inverted:
        ds.InversionTime = None


def _add_xray(ds: Dataset, phantom: Phantom) -> None:
    """DX series, anatomy, image and detector modules (C.8.11.1 to C.8.11.4), its context."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = [region_item(phantom)]
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.DetectorType, ds.DetectorConfiguration, ds.PositionerType = None, None, ""
    ds.ViewPosition = "PA"
    ds.ImagerPixelSpacing = ds.PixelSpacing = [decimal(phantom.pixel_spacing_mm)] * 2
    ds.PixelSpacingCalibrationType = "GEOMETRY"
    ds.PixelSpacingCalibrationDescription = "in the plane that is drawn"
    ds.AcquisitionContextSequence = []


def _add_ultrasound(ds: Dataset, phantom: Phantom) -> None:
    """US image and region calibration modules (C.8.5.6, C.8.5.5): one region, in centimetres."""
    ds.ImageType = ["DERIVED", "PRIMARY", "", "0001"]
    ds.Laterality = ""
    ds.AnatomicRegionSequence = [region_item(phantom)]
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = ds.Columns - 1, ds.Rows - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = phantom.pixel_spacing_mm / 10
    ds.SequenceOfUltrasoundRegions = [region]


# DICOM's code of a modality -> SOP class below `_STORAGE`, and what adds its IOD's own modules
IODS: dict[str, tuple[str, Callable[[Dataset, Phantom], None]]] = {
    "CT": ("2", _add_ct),
    "MR": ("4", _add_mr),
    "DX": ("1.1", _add_xray),  # Digital X-Ray, for presentation
    "US": ("6.1", _add_ultrasound),
    "OP": ("77.1.5.1", add_fundus),  # Ophthalmic Photography 8 Bit
    "OPT": ("77.1.5.4", add_oct),  # Ophthalmic Tomography
    "DMS": ("77.1.7", add_dermoscopy),  # Dermoscopic Photography
    "GM": ("77.1.2", add_microscopy),  # VL Microscopic
}


def write_cohort(
    folder: Path,
    counts: dict[str, int],
    size: int,
    seed: int,
    difficulty: float,
    segmentations: Path | None = None,
    kept: Container[str] | None = None,
) -> Iterator[Path]:
    """Write `counts[kind]` phantoms as folder/<kind>/NNNN.dcm and yield every path.

    Files already there are kept: all, or those named in `kept` as <kind>/NNNN.dcm. An image depends
    on `seed`, its kind and its number only, so a cohort can grow. One patient in five has two
    images, which tests that splits go by patient.
    With `segmentations` the mask of every finding is written there too, as a DICOM SEG object.
    """
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = folder / kind / f"{number:04d}.dcm"
            mask = segmentations and segmentations / kind / path.name
            there = path.exists() and (kept is None or f"{kind}/{path.name}" in kept)
            if not there or (mask and not mask.exists()):
                phantom = draw(kind, phantom_seed(seed, kind, number), size, difficulty)
                if not there:
                    write_dicom(phantom, path, patient_of(number), seed)
                if mask and phantom.mask.any():
                    write_segmentation(phantom, dcmread(path), mask)
            yield path


def redraw(folder: Path, name: str, size: int, seed: int, difficulty: float) -> Path:
    """Write the phantom of a cohort that is called `name` below `folder`: kind/NNNN.dcm."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, number = path.parent.name, int(path.stem)
    phantom = draw(kind, phantom_seed(seed, kind, number), size, difficulty)
    write_dicom(phantom, path, patient_of(number), seed)
    return path


def patient_of(number: int) -> str:
    """The patient of an image of a cohort: one in five has two."""
    return f"{number * 5 // 6 + 1:04d}"


def phantom_seed(seed: int, kind: str, number: int) -> int:
    """A 31-bit seed for one image of a cohort."""
    digest = hashlib.sha256(json.dumps([seed, kind, number]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
