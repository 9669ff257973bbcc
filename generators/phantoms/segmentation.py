"""The mask of a phantom as a DICOM Segmentation object, through highdicom (an extra)."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from generators.phantoms.base import GENERATOR, VERSION, Phantom


def write_segmentation(phantom: Phantom, image: Dataset, path: Path) -> None:
    """Write the finding's mask as a binary segment of the image it lies on, whole or not at all.

    `image` is the phantom's own dataset; the object refers to it. Raises ValueError without a
    finding, ImportError without highdicom.
    """
    import highdicom
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    from generators.phantoms.dicom_codes import uid

    if not phantom.mask.any():
        raise ValueError("this phantom has no finding, so there is no mask to write")
    made_by = highdicom.AlgorithmIdentificationSequence(
        name=GENERATOR, family=codes.cid7162.ArtificialIntelligence, version=VERSION
    )
    segment = SegmentDescription(
        segment_number=1,
        segment_label=phantom.truth.finding,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=made_by,
    )
    mask = Segmentation(
        source_images=[_as_source(image)],
        pixel_array=phantom.mask[None],
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=uid("segmentation series", image.SOPInstanceUID),
        series_number=2,
        sop_instance_uid=uid("segmentation", image.SOPInstanceUID),
        instance_number=1,
        manufacturer=GENERATOR,
        manufacturer_model_name="phantom",
        software_versions=VERSION,
        device_serial_number="0",
    )
    if "PlanePositionSequence" not in mask.PerFrameFunctionalGroupsSequence[0]:
        mask.PatientOrientation = image.get("PatientOrientation", "")
    for measures in mask.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", []):
        if "SliceThickness" not in measures:
            measures.SliceThickness = "0.001"  # a surface; 0 is not allowed
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    mask.save_as(partial)
    partial.replace(path)


def _as_source(image: Dataset) -> Dataset:
    """The image as highdicom takes it: it wants functional groups of whatever counts its frames."""
    if "NumberOfFrames" not in image or "SharedFunctionalGroupsSequence" in image:
        return image
    grouped = Dataset()
    grouped.update(dict(image.items()))
    grouped.file_meta = image.file_meta
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing = image.PixelSpacing
    shared.PixelMeasuresSequence = [measures]
    grouped.SharedFunctionalGroupsSequence = [shared]
    grouped.PerFrameFunctionalGroupsSequence = [Dataset()]
    return grouped
