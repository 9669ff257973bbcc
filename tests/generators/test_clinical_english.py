"""Ordinary clinical English passes the filters.

QUESTIONS and SENTENCES the rules of shorthand were drawn up on; UNSEEN and UNSEEN_SENTENCES were
written afterwards, and no rule was changed for them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from generators.filters import form, reasoning
from tests.lineage_workspace import make_image, make_triplet

ROW = make_triplet(make_image(1, "g"), "g", 0, 1)
QUESTIONS = (
    "What abnormality is of concern?",
    "Which finding is of the greatest interest here?",
    "Is or was there a rib fracture?",
    "Is the nodule greater than or equal to 6 mm?",
    "Is there a mass, no mass effect, or both?",
    "What is the WHO grade of this tumour?",
    "Is this hepatitis A?",
    "Does the dissection involve type A or type B anatomy?",
    "Is there an aneurysm of the A1 segment?",
    "is there a disc bulge at l4-l5?",
    "Is there stenosis at L4-5?",
    "Does this look like covid-19 pneumonia?",
    "Is this a grade-2 tear?",
    "are there b lines at the right base?",
    "is the t score below -2.5?",
    "Is this a CT w/o contrast?",
    "Is this a with or without contrast study?",
    "Any findings c/w hepatitis c?",
    "r/o pneumothorax?",
    "Is there a fracture? if so, where?",
    "Is the lesion approx. two cm in size?",
    "Is nodule no. 3 calcified vs. fatty?",
    "Which is larger, A or B?",
    "Which is correct: a) cyst b) abscess c) haematoma?",
    "Compare both kidneys.",
    "Which of these is/are seen: cyst, stone, mass?",
    "Left lower lobe consolidation location?",
    "What is the E:A ratio on this Doppler trace?",
    "Is the sinus clear on T2/FLAIR?",
    "Is the PleurX catheter in place?",
    "is this a k-space artefact or an artefact of motion?",
    "Was 5 l of fluid drained?",
    "did the pressure exceed 120 mmhg?",
    "How many lesions does it have, and what are they made of?",
    "is it a very very small stone",
)
SENTENCES = (
    "The lesion is of low density compared with the liver.",
    "The heart is of normal size and shape.",
    "The collections are of similar attenuation.",
    "The density is more that of fluid than of blood.",
    "The left kidney is larger than the right and than the spleen.",
    "The nodule measures 3 x 3 x 2 cm.",
    "It measures 2 x 2 x 2 cm, i.e., it is small.",
    "A cyst of 1.5 × 1.5 × 1.5 cm lies in the liver.",
    "The patient is known to have hepatitis c.",
    "This is rickets from vitamin d deficiency.",
    "There is a type b dissection, distal to the left subclavian artery.",
    "The culture grew e. coli, so an abscess is likely.",
    "Contrast was given p.o. and i.v. before the scan.",
    "The cyst has a thin wall (i.e., small risk) and no septa.",
    "It is bright (e.g. compared with muscle) on T2.",
    "It is dark (approx. 20 HU. The spleen has 50 HU) and well defined.",
    "1) The lung is dark. 2) The heart is normal.",
    "a) The lung is dark. b) The heart is normal.",
    "(a) The lung is dark; (b) the heart is normal (see 2).",
    "Status post sternotomy, with wires in place.",
    "S/p cholecystectomy, h/o gallstones, c/o pain.",
    "There is a 3-cm mass in segment 4a, vs. a haemangioma.",
    "No mass, no mass effect, no midline shift.",
    "The scores of the three readers are 2, 2, 2.",
    "I do not know what it is, or what it was, on the prior film.",
    "The sac is smaller, i.e. 3 cm, than it was.",
    "Disc bulges are seen at c5-c6 and t12-l1, most at L4/5.",
    "the lungs are clear. the heart is normal in size.",
    "The difference is of no importance (p < 0.05, n = 12).",
    "The mass enhances; i think that it is a meningioma.",
    "Comparison with prior exams is limited, incl. the ultrasound.",
    "The finding is consistent with Kerley b lines and fluid overload.",
    "The lungs are clear.\r\nThe heart is normal in size.",
    "Hepatitis A is not seen on imaging, and vitamin A is not either.",
    "Dr. no. 2 read it as Weber b, i.e. at the level of the joint.",
)
UNSEEN = (
    "Is the cardiothoracic ratio above 0.5?",
    "Which lobe is collapsed?",
    "does this pt need a chest tube?",
    "What are the arrowheads pointing at?",
    "Is the spleen bigger than it should be?",
    "Is the odontoid intact on this open-mouth view?",
    "What's wrong with the left hip?",
    "is it subdural or epidural?",
    "Is the finding acute, subacute or chronic?",
    "Any e/o acute bleed?",
    "Are the kidneys of equal size?",
    "Is that a Hill-Sachs lesion?",
    "In which phase (arterial, portal venous, delayed) was it acquired?",
    "Where, if anywhere, is the fracture?",
    "Is a G-tube present?",
    "Was fat suppression used on this T1w image?",
    "Does the lesion cross the midline, and if so, by how many mm?",
    "How would you describe the margins of this mass?",
    "Is the MCA hyperdense, as in M1 occlusion?",
    "What might the 2-mm calcification in the left kidney be?",
)
UNSEEN_SENTENCES = (
    "No evidence of acute intracranial haemorrhage, mass, or infarct.",
    "Heart size normal. Lungs clear. No effusion.",
    "The optic disc has a cup-to-disc ratio of 0.6, which is of concern for glaucoma.",
    "On FLAIR, the lesion is bright; on DWI it is dark, so it isn't acute.",
    "Sections show glands lined by columnar cells w/o atypia.",
    "Mild DJD of the knee, grade ii of iv.",
    "Multiple stones (max. 8 mm) are seen in the gallbladder.",
    "There is a 12-mm nodule, cf. the prior CT of the chest.",
    "Because both costophrenic angles are sharp, an effusion can be excluded.",
    "Findings: (1) cardiomegaly, (2) oedema, and (3) small effusions.",
    "The liver is enlarged at 19 cm (normal <16 cm).",
    "ASSESSMENT: BI-RADS 4b; biopsy is advised.",
    "The nevus has an irregular border and more than 3 colours.",
    "Compared to the right, the left ventricle is dilated.",
    "The retina is attached and the macula is flat, w/ no fluid.",
    "It is either a cyst or, less likely, a solid mass.",
    "If it were malignant, one would expect invasion.",
    "What is seen is a normal variant.",
    "The pattern is that of usual interstitial pneumonia.",
    "The ejection fraction is 55-60%, i.e. normal.",
)
BROKEN = (
    "Is of there a cyst?",
    "Is the lesion is of than the liver?",
    "Is there a (cyst in the liver?",
    "Is there a cyst) in the liver?",
    "Is there k a cyst?",
    "Is there a cyst cyst, in the liver?",
    "I see a cyst, I see a cyst, I see a cyst, I see a cyst?",
    "Is there the of a cyst?",
    "Is theMRI normal?",
    "Is there x-ray3 of it?",
    "The lesion is than and the liver?",
    "What is the lesion larger than or?",
    "Zeigt dieses Bild einen Tumor?",
)


def test_the_sentences_that_no_rule_was_drawn_up_on_are_many() -> None:
    assert len({*UNSEEN, *UNSEEN_SENTENCES}) >= 40


@pytest.mark.parametrize("text", [*QUESTIONS, *UNSEEN])
def test_an_ordinary_question_passes(text: str) -> None:
    assert form.reason(replace(ROW, question=text)) is None


@pytest.mark.parametrize("text", [*SENTENCES, *UNSEEN_SENTENCES])
def test_an_ordinary_sentence_passes(text: str) -> None:
    assert reasoning.reason(replace(ROW, rationale=text)) is None


@pytest.mark.parametrize("text", BROKEN)
def test_what_resembles_one_and_is_broken_is_out(text: str) -> None:
    assert str(form.reason(replace(ROW, question=text))).startswith("question: ")
