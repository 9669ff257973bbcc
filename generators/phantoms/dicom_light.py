"""What the images of light add to a dataset: ophthalmic, dermoscopic and microscopic IODs (PS3.3).

Where the drawn image knows nothing (an exposure, a device) an attribute of type 2 stays empty.
"""

from __future__ import annotations

import hashlib
import json

from pydicom import Dataset
from pydicom.uid import UID

from generators.phantoms.base import Phantom
from generators.phantoms.dicom_codes import code_item, decimal, region_item

DATETIME = "20000101120000"


def add_fundus(ds: Dataset, phantom: Phantom) -> None:
    """Ophthalmic photography image, parameters and region (C.8.17.1 to C.8.17.5); one frame."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]  # DERIVED would name the source images
    ds.NumberOfFrames, ds.FrameIncrementPointer, ds.FrameTime = 1, 0x00181063, "0"
    _add_eye(ds, phantom)
    _add_synchronization(ds)
    ds.PixelSpacing = [decimal(phantom.pixel_spacing_mm)] * 2
    ds.AcquisitionDateTime = DATETIME
    ds.PatientEyeMovementCommanded, ds.AcquisitionContextSequence = "NO", []
    ds.HorizontalFieldOfView = 50.0
    ds.AcquisitionDeviceTypeCodeSequence = [code_item("409898007", "SCT", "Fundus Camera")]
    ds.IlluminationTypeCodeSequence, ds.LightPathFilterTypeStackCodeSequence = [], []
    ds.ImagePathFilterTypeStackCodeSequence, ds.LensesCodeSequence = [], []
    ds.DetectorType = "CCD"


def add_oct(ds: Dataset, phantom: Phantom) -> None:
    """Ophthalmic tomography modules (C.8.17.6 to C.8.17.10): one B-scan, enhanced multi-frame."""
    from generators.phantoms.kinds.oct import HEIGHT_MM

    ds.ImageType = ["DERIVED", "PRIMARY"]
    for keyword in ("AcquisitionDate", "AcquisitionTime", "DerivationDescription",
                    "PatientOrientation"):  # fmt: skip
        delattr(ds, keyword)
    ds.NumberOfFrames = 1
    ds.ConcatenationFrameOffsetNumber = 0
    ds.InConcatenationNumber = ds.InConcatenationTotalNumber = 1
    _add_eye(ds, phantom)
    ds.AcquisitionDateTime = DATETIME
    ds.AxialLengthOfTheEye = ds.HorizontalFieldOfView = None
    ds.AcquisitionContextSequence = []
    ds.PresentationLUTShape, ds.BurnedInAnnotation = "IDENTITY", "NO"
    ds.DetectorType = "CCD"
    ds.IlluminationWaveLength, ds.IlluminationPower, ds.IlluminationBandwidth = 840.0, 600.0, 50.0
    ds.DepthSpatialResolution, ds.MaximumDepthDistortion = 8.0, 0.0
    ds.AlongScanSpatialResolution, ds.MaximumAlongScanDistortion = 20.0, 0.0
    ds.AcrossScanSpatialResolution, ds.MaximumAcrossScanDistortion = 20.0, 0.0
    ds.AcquisitionDeviceTypeCodeSequence = [
        code_item("392012008", "SCT", "Optical Coherence Tomography Scanner")
    ]
    ds.LightPathFilterTypeStackCodeSequence = []
    ds.FrameOfReferenceUID = UID(_derived(ds, "frame of reference"))
    ds.PositionReferenceIndicator = ""
    _add_synchronization(ds)
    spacing = (HEIGHT_MM / ds.Rows, phantom.pixel_spacing_mm)
    _add_functional_groups(ds, spacing)


def _add_functional_groups(ds: Dataset, spacing: tuple[float, float]) -> None:
    """Shared and per-frame functional groups of the single frame (C.7.6.16)."""
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = [decimal(value) for value in spacing]
    measures.SliceThickness = "0.02"
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    anatomy = Dataset()
    anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = (
        ds.ImageLaterality,
        [ds.AnatomicRegionSequence[0]],
    )
    shared.FrameAnatomySequence = [anatomy]
    content, place = Dataset(), Dataset()
    content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = DATETIME
    content.FrameAcquisitionDuration = 0.0
    content.StackID, content.InStackPositionNumber = "1", 1
    content.DimensionIndexValues = [1, 1]
    place.ImagePositionPatient = [0, 0, 0]
    frame = Dataset()
    frame.FrameContentSequence, frame.PlanePositionSequence = [content], [place]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [frame]
    organisation = Dataset()
    organisation.DimensionOrganizationUID = UID(_derived(ds, "dimensions"))
    ds.DimensionOrganizationSequence = [organisation]
    ds.DimensionIndexSequence = [
        _dimension(organisation, 0x00209056), _dimension(organisation, 0x00209057),
    ]  # fmt: skip


def _dimension(organisation: Dataset, pointer: int) -> Dataset:
    """One index of a frame: StackID or InStackPositionNumber, of the frame's content."""
    item = Dataset()
    item.DimensionOrganizationUID = organisation.DimensionOrganizationUID
    item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, 0x00209111
    return item


def _derived(ds: Dataset, what: str) -> str:
    digest = hashlib.sha256(json.dumps([what, ds.StudyInstanceUID]).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _add_synchronization(ds: Dataset) -> None:
    """Synchronization module (C.7.4.2): with nothing."""
    ds.SynchronizationFrameOfReferenceUID = UID(_derived(ds, "synchronization"))
    ds.SynchronizationTrigger, ds.AcquisitionTimeSynchronized = "NO TRIGGER", "N"


def _add_eye(ds: Dataset, phantom: Phantom) -> None:
    """Ocular region imaged (C.8.17.5) and the eye's state: unknown (C.8.17.14)."""
    eye = phantom.truth.attributes.get("eye", "right")
    ds.ImageLaterality = "L" if eye == "left" else "R"
    ds.AnatomicRegionSequence = [region_item(phantom)]
    ds.RefractiveStateSequence, ds.EmmetropicMagnification, ds.IntraOcularPressure = [], None, None
    ds.PupilDilated = ""


def add_dermoscopy(ds: Dataset, phantom: Phantom) -> None:
    """VL image and dermoscopic image modules (C.8.12.1, C.8.12.14)."""
    ds.ImageType, ds.Laterality = ["DERIVED", "PRIMARY"], ""
    ds.AnatomicRegionSequence = [region_item(phantom)]
    ds.FrameOfReferenceUID = UID(_derived(ds, "frame of reference"))
    ds.PositionReferenceIndicator = ""
    ds.RecognizableVisualFeatures = "NO"
    ds.LightSourcePolarization, ds.ContactMethod = "", ""
    ds.EmitterColorTemperature = ds.OpticalMagnificationFactor = None
    ds.PixelSpacing = [decimal(phantom.pixel_spacing_mm)] * 2
    ds.AcquisitionContextSequence = []


def add_microscopy(ds: Dataset, phantom: Phantom) -> None:
    """VL image and specimen modules (C.8.12.1, C.7.6.22): one stained slide."""
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.PixelSpacing = [decimal(phantom.pixel_spacing_mm)] * 2
    ds.AcquisitionContextSequence = []
