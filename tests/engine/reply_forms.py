r"""Forms in which real models reply, right and wrong, each with where it was seen.

A source is a repository's file, issue or pull request on GitHub: a library's test of what it reads,
a report of what was misread, or a prompt that asks for the form. Their answers are put into
options of ours; what is around them is theirs.
"""

from __future__ import annotations

SIDES = ("left", "right", "both sides", "neither side", "midline")

AGIEVAL = "ruixiangcui/AGIEval issue 3"
ALFA = "stellalisy/alfa src/mediq_eval/data_preparation/question_generation_prompt_post.py"
AQUA = "anbauoq/llm-self-refinement-eval-2.0 src/datasets/aqua.py"
AZURE = "Azure/azureml-assets pull 5274 (GPT-5.5)"
BILAL = "muhammad-bilal18/langchain src/lib/prompts.ts"
BIOMENTOR = (
    "Sujitha1221/BioMentor-Personalized-E-Learning-Platform "
    "Back-End/MCQ/tests/test_generate_question.py"
)
CHOICES = "raybears/cot-transparency cot_transparency/formatters/extraction.py"
CLAUDE_MEM = "thedotmack/claude-mem issue 3490 (Gemini 2.5 Flash Lite)"
COT = "raybears/cot-transparency tests/data/answer_examples.yaml"
DATAPIZZA = "datapizzaorg-ai-lab/hackaton2024-mistralxalan prompts.py"
DEEPSEEK = "deepseek-ai/DeepSeek-R1 issue 352"
DIFFUSION = "zeynebnk/discrete-diffusion-rlgrpo gsm_utils.py"
DOCLING = "docling-project/docling issue 3420"
DS4 = "antirez/ds4 issue 321"
EUROEVAL = "EuroEval/EuroEval pull 1006"
EVALSCOPE = "modelscope/evalscope pull 1560 (AGIEval)"
EVALSCOPE_CODE = "modelscope/evalscope evalscope/utils/multi_choices.py"
FNLLM = "microsoft/essex-toolkit issue 437 (gpt-4o-mini)"
FRONTIER = "openai/frontier-evals pull 126"
GAURAV = "gaurav-palve/AI-Interview-Assistant-System backend/app/utils/parse_mcqs.py"
GLM_BOX = "zai-org/GLM-V issue 79 (GLM-4.1V-Thinking)"
GYM = "NVIDIA-NeMo/Gym pull 1945 (GPT-OSS-20B)"
GYM_TESTS = "NVIDIA-NeMo/Gym resources_servers/mcqa/tests/test_app.py"
HACK = "BorbiAl/Hack_Tues_11 core/utils.py"
HELM = "stanford-crfm/helm issue 1803 (Vicuna, Alpaca)"
IMAGE2QUIZ = "VinhPhamAI/image2quiz Dev/LLM/prompt.py"
INSPECT = "UKGovernmentBEIS/inspect_ai issue 5055"
INSPECT_TESTS = "UKGovernmentBEIS/inspect_ai tests/scorer/test_choice.py"
INSPECT_SOLVER = "UKGovernmentBEIS/inspect_ai tests/solver/test_multiple_choice.py"
ION = "Roger-luo/Ion issue 134"
JSON_REPAIR = "mangiucugna/json_repair tests/test_json_repair.py"
KEPO = "Corleno/KEPO src/gold_multimodal/prompt.py"
KOBOLD = "LostRuins/koboldcpp issue 266"
LANGCHAIN = "langchain-ai/langchain tests/unit_tests/output_parsers/test_json.py"
LANGCHAIN_FENCE = "langchain-ai/langchain issue 23297"
LEARNING = "benchuangxd/learning-app PARSER_FIX_OPTIONS.md"
LIGATURES = "linkml/linkml-reference-validator issue 73"
LIGHTEVAL = "huggingface/lighteval tests/metrics/test_extractive_match.py"
LLAVA = "haotian-liu/LLaVA issue 814"
LLAVA_PROMPT = "marcomag416/llava-project prompts.py"
MEDARC = "MedARC-AI/med-lm-envs tests/test_mcq_accuracy.py"
MEDRAG = "Teddy-XiongGZ/MedRAG src/template.py"
MLX = "ml-explore/mlx-lm pull 1004 (Qwen3)"
MMLU_PRO = "TIGER-AI-Lab/MMLU-Pro evaluate_from_local.py"
MOLTIS = "moltis-org/moltis issue 306"
MOLTIS_EOM = "moltis-org/moltis pull 720 (Jamba)"
NEMO_BOX = "NVIDIA-NeMo/Skills issue 1511 (Nemotron-3-Nano)"
NEMO_HLE = "NVIDIA-NeMo/Skills pull 1373 (HLE)"
OMLX = "jundot/omlx pull 3668"
OMLX_EOS = "jundot/omlx issue 1087 (Gemma)"
OPENBENCH = "groq/openbench src/openbench/scorers/mcq.py"
OPENBENCH_BUG = "groq/openbench issue 348"
OPEN_R1 = "huggingface/open-r1 tests/test_rewards.py"
OPEN_R1_TAGS = "huggingface/open-r1 pull 418"
PODGPT = "vkola-lab/PodGPT rag_pipeline/utils/answer_utils.py"
PYDANTIC = "pydantic/pydantic-ai pull 3141 (Claude, Gemini)"
QUICKQUIZ = "IntToLong/QuickQuiz app/api/generate-quiz/prompt.js"
QUIZCRAFTER = "raunakwete43/QuizCrafter backend/template.py"
SCHOLA = "WildSphee/Schola llms/prompt.py"
SIA = "hexo-ai/sia pull 57"
SIMPLE = "openai/simple-evals common.py"
SIMPLE_GERMAN = "openai/simple-evals issue 33"
SINGLE_QUOTES = "mangiucugna/json_repair issue 10"
SMART_ELEARNING = (
    "purnalakshitha99/edu-smart-elearning-platform question-answering-system-with-T5/prompts.py"
)
STEERING = (
    "Rayan01910/Multi-Cluster-Self-Steering-for-Medical-LMs baselines/data2/prompt_builder2.py"
)
TRUNCATED = "mangiucugna/json_repair issue 59 (Llama 3.1)"
VISUAL_RFT = "Liuziyu77/Visual-RFT issue 176"
VLLM = "vllm-project/vllm tests/reasoning/test_deepseekr1_reasoning_parser.py"
VLMEVAL = "open-compass/VLMEvalKit pull 1552 (Gemma 3)"
VLMEVAL_CODE = "open-compass/VLMEvalKit vlmeval/utils/matching_util.py"
WIKI = "anuraggjena/wiki_quiz sample_data/prompts.md"
YOUGEN = "shakauthossain/AI_You-Gen app/utils/mcq.py"

# A reply to a question with the options of SIDES, the letter of what it answers, where it was seen.
ANSWERS = [
    # a letter or an option alone
    ("c", "C", MEDARC),
    (" c ", "C", MEDARC),
    ("  Both sides.  ", "C", MEDARC),
    ("B. right", "B", MEDARC),
    ("**(B)** right", "B", MEDARC),
    ("C", "C", MEDARC),
    ("C.", "C", SIA),
    ("**C**", "C", SIA),
    ("(D)", "D", SIA),
    ("C)", "C", OPENBENCH),
    ("[B]", "B", OPENBENCH),
    ("*A*", "A", OPENBENCH),
    ("_C_", "C", OPENBENCH),
    ("__D__", "D", OPENBENCH),
    ("**B) right**", "B", OPENBENCH),
    (r"\textbf{C}", "C", OPENBENCH),
    ("Option B", "B", OPENBENCH),
    ("B right", "B", LIGHTEVAL),
    ("$D$", "D", GYM),
    # "Answer:"
    ("Answer: B", "B", MMLU_PRO),
    ("Answer: c", "C", GYM_TESTS),
    ("Answer: both sides", "C", GYM_TESTS),
    ("ANSWER: B", "B", AZURE),
    ("**ANSWER**: **B**", "B", AZURE),
    ("**ANSWER: B**", "B", AZURE),
    ("**ANSWER:** right", "B", AZURE),
    ("***ANSWER***: ***B***", "B", AZURE),
    ("*ANSWER*: *B*", "B", AZURE),
    ("ANSWER: (B)", "B", AZURE),
    ("ANSWER: B.", "B", AZURE),
    ("ANSWER: **A**", "A", INSPECT),
    ("ANSWER: $A$", "A", INSPECT),
    ("ANSWERS: A", "A", INSPECT_TESTS),
    ("ANSWER: [A]", "A", EVALSCOPE),
    ("ANSWER: (B) right", "B", EVALSCOPE),
    ("**Answer: (B) right**", "B", EVALSCOPE),
    ("Answers: (B)", "B", OPENBENCH),
    ("Answers – D", "D", OPENBENCH),
    ("Final answer - B", "B", SIA),
    ("Answer: Ｂ", "B", SIMPLE),
    ("Answer: $B$", "B", SIMPLE),
    (r"Answer: $\boxed{B}$", "B", SIMPLE),
    (r"Answer: $\text{B}$", "B", SIMPLE),
    (r"Answer: \(\mathrm{B}\)", "B", SIMPLE),
    (r"Answer: \mathbf{B}", "B", SIMPLE),
    ("Final   answer:    C  ", "C", MEDARC),
    ("Let me think... Final answer: C", "C", MEDARC),
    ("Final answer: choice (B)", "B", MEDARC),
    ("Level is 3.5 mg/dL. Answer: A", "A", MEDARC),
    ("Patient needs Vitamin C supplementation. Answer: D", "D", MEDARC),
    ("Reasoning...\n\nFinal answer:\nC", "C", MEDARC),
    ("The calculated answer is 11.\n\nAnswer seems to be A.\n\nAnswer: A\n", "A", OPENBENCH_BUG),
    ("\\boxed{\\langle H\\rangle \\ll \\Delta E}\n\n**Answer: D**", "D", NEMO_BOX),
    ("Answer: A\nAnswer: A", "A", SIMPLE_GERMAN),
    # "The answer is"
    ("The answer is (B).", "B", MMLU_PRO),
    ("answer is B", "B", VLMEVAL),
    ("correct answer is B", "B", VLMEVAL),
    ("The correct answer is **B**", "B", VLMEVAL),
    ("The answer is C.", "C", GYM_TESTS),
    ("ANSWER IS b", "B", GYM_TESTS),
    ("The answer is option A", "A", MEDARC),
    ("HbA1c is elevated. The answer is B", "B", MEDARC),
    ("The answer is c", "C", MEDARC),
    ("The answer is\u2009C", "C", MEDARC),
    ("The answer is: C", "C", MEDARC),
    (r"The answer is \textbf{C}", "C", MEDARC),
    ("The answer is both sides.", "C", MEDARC),
    ("My answer is A", "A", MEDARC),
    ("My choice: (A)", "A", MEDARC),
    ("Choice: C", "C", OPENBENCH),
    ("Final Choice: B", "B", GYM_TESTS),
    ("correct answer is [A]", "A", PODGPT),
    ("correct answer is {A}", "A", PODGPT),
    ("best option is (A)", "A", PODGPT),
    ("correct choice is A", "A", PODGPT),
    ("The answer would be (B)", "B", PODGPT),
    ("Therefore, the best answer is:\n(A) left", "A", COT),
    ("The best answer is: A) left", "A", COT),
    ("The best answer is:\n(A)", "A", COT),
    ("The best answer is: A", "A", COT),
    ("The best answer is A", "A", COT),
    ("Therefore, the best answer is:\n\n(A) left", "A", COT),
    ("Given this reasoning, the best answer is:\n(B) right", "B", COT),
    ("Between these two, A seems closer.\n\nTherefore, the best answer is: \n(A) left", "A", COT),
    ("(D) neither side is often named.\n\nThe best answer is: (A) left", "A", COT),
    ("answer is  (B)", "B", CHOICES),
    ("answer is:(B)", "B", CHOICES),
    ("answer is: \n(B)", "B", CHOICES),
    ("answer is Option B", "B", CHOICES),
    # LaTeX
    (r"\boxed{B}", "B", OPENBENCH),
    (r"\boxed{\textbf{C}}", "C", OPENBENCH),
    (r"\boxed{\text{C}}", "C", OPENBENCH),
    (r"Final: \boxed{ [C] }", "C", GYM_TESTS),
    (r"Final: \boxed{ both sides }", "C", GYM_TESTS),
    (r"\boxed{\text{Answer: D}}", "D", GYM),
    (r"The single most likely answer is: $\boxed{\text{(B) right}}$.", "B", COT),
    (r"Therefore, the best answer is: \[\boxed{\text{(C) both sides}}\].", "C", COT),
    # reasoning in its tags, and answers outside of theirs
    ("Reasoning...\n</think>\n\nA", "A", MEDARC),
    ("The answer is B. But on the other hand... I know\n</think>A", "A", MEDARC),
    ("This is a reasoning section</think>B", "B", VLLM),
    ("This\nThat</think>right", "B", VLLM),
    ("</think>B", "B", VLLM),
    ("\n<think>This is a reasoning section</think>\nB", "B", VLLM),
    ("Alright, the user just asked.\n</think>\n\n<answer>B</answer>", "B", DEEPSEEK),
    ("<think>Some reasoning</think><answer>B</answer>", "B", OPEN_R1),
    ("<think>\n1. Purple\n2. Red\n\nIn total.\n</think>\n<answer>B</answer>", "B", OPEN_R1),
    ("<answer>B</answer>", "B", OPEN_R1),
    ("<think>\nthoughts\n</think>\n<answer>\nB\n</answer>", "B", OPEN_R1_TAGS),
    ("<think>It is dark.</think> <answer>B</answer>", "B", KEPO),
    ("<reasoning>\nIt is dark.\n</reasoning>\n<answer>\nB\n</answer>\n", "B", DIFFUSION),
    ("< ANSWER > B </ Answer >", "B", AQUA),
    ("I see it.\n<answer>(B)</answer>", "B", AQUA),
    ('<answer>"C"</answer>', "C", AQUA),
    ("<answer>{C}</answer>", "C", AQUA),
    ("<answer><C></answer>", "C", AQUA),
    ("<answer><|begin_of_box|>B<|end_of_box|></answer>", "B", GLM_BOX),
    ("<think>It is dark.</think>\n<|begin_of_box|>B<|end_of_box|>", "B", GLM_BOX),
    # fences and end tokens
    ("Here's the answer:\n\n```xml\n<answer>B</answer>\n```", "B", ION),
    ("<answer>B</answer><|im_end|>", "B", MOLTIS),
    ("<answer>B</answer></s>", "B", HELM),
    ("right<eos>", "B", OMLX_EOS),
    ("<answer>B</answer><|endoftext|>", "B", KOBOLD),
    ("<answer>B</answer><｜end▁of▁sentence｜>", "B", EUROEVAL),
    ("<answer>B</answer><|eom|>", "B", MOLTIS_EOM),
    # JSON
    ('```json\n{\n    "answer": "B"\n}\n```', "B", LANGCHAIN),
    ('\n\n```json\n{\n    "answer": "B"\n}\n```\n\n', "B", LANGCHAIN),
    ('```json\n{\n\n    "answer": "B"\n\n}\n```', "B", LANGCHAIN),
    ('\n\n```\n\n{\n\n    "answer": "B"\n\n}\n\n```\n\n', "B", LANGCHAIN),
    ('{\n    "answer": "B"\n}', "B", LANGCHAIN),
    ('Thought: I need to look\n\nAction:\n```\n{\n  "answer": "B"\n}\n```', "B", LANGCHAIN),
    ('```json\n{ "answer": "B", "summary": "..." }\n```', "B", FNLLM),
    ('```json\n{"answer": "B"}\n```', "B", PYDANTIC),
    ('``` json\n{"answer": "B"}\n```', "B", LANGCHAIN_FENCE),
    ('Here is your JSON:\n{"answer": "B", "id": 8}', "B", JSON_REPAIR),
    ('**Decision**: bla (some clarification):\n\n```json\n{"answer": "B"}\n```', "B", JSON_REPAIR),
    ('(1) Keep this note.\n\n```json\n{"answer": "B"}\n```', "B", JSON_REPAIR),
    ('[{"answer": "B"}]', "B", JSON_REPAIR),
    ('{"step_by_step_thinking": "It is dark.", "answer_choice": "B"}', "B", MEDRAG),
    ('{"answer": ["B"]}', "B", DATAPIZZA),
    ("{'answer': 'B', 'explanation': 'It is dark.'}", "B", MLX),
    ("{'answer': 'B'}", "B", SINGLE_QUOTES),
]

# A reply, the options of another question, and the option that it names, in another script's marks.
SPELT = [
    ("Answer: amyloid ﬁbrils", ("amyloid plaques", "amyloid fibrils"), 1, LIGATURES),
    ("The answer is T cell–mediated.", ("B cell-mediated", "T cell-mediated"), 1, DOCLING),
    ("**Answer:** Virchow’s", ("Virchow's", "Murphy's"), 0, DOCLING),
]

# A reply to the same question that answers nothing, or more than one thing; why it is unreadable.
NO_OPTION = "not one of the options"
NONE = "no answer tag"
TWO = "more than one answer"
AFTER = "text after the answer"
UNREADABLE = [
    # hedges and lists
    ("A, B", NONE, LLAVA),
    ("A, C", NONE, MEDARC),
    ("A; C", NONE, MEDARC),
    ("A: C", NONE, MEDARC),
    ("A. C", NONE, MEDARC),
    ("A) C", NONE, MEDARC),
    (r"A,\ C,\ D", NONE, MEDARC),
    ("D / G / J", NONE, MEDARC),
    ("(A), (C)", NONE, MEDARC),
    ("[B], [C], [E]", NONE, MEDARC),
    ("A or C", NONE, MEDARC),
    ("B and E", NONE, MEDARC),
    ("both A and C", NONE, MEDARC),
    ("A & C", NONE, MEDARC),
    ("A + C", NONE, MEDARC),
    ("B, & D", NONE, MEDARC),
    ("Answer: A/B/C", NO_OPTION, GYM),
    ("Answer: A or B", NO_OPTION, GYM),
    ("Answer: A and B", NO_OPTION, GYM),
    ("Answer: A, B", NO_OPTION, GYM),
    ("**Answer: D/H**", NO_OPTION, GYM),
    ("Answer: B/B", NO_OPTION, GYM),
    ("Answer: unknown", NO_OPTION, GYM),
    ("Answer: G", NO_OPTION, GYM),
    ("ANSWER: A, B", NO_OPTION, INSPECT_TESTS),
    ("ANSWER: AB", NO_OPTION, INSPECT_SOLVER),
    ("ANSWER: (A, C)", NO_OPTION, EVALSCOPE),
    ('{"answer": ["A","B","D"]}', "an answer that is no short text", DATAPIZZA),
    # two answers
    ("Answer: A\nAnswer: B", TWO, GYM),
    ("Answer: B. The answer is C.", TWO, MEDARC),
    ("Maybe Answer: A? Let me reconsider. Final Answer: B", TWO, GYM_TESTS),
    ("Answer: It is not B, the answer is D", TWO, DS4),
    ("<answer>A</answer>\n<think>no</think>\n<answer>B</answer>", TWO, OPEN_R1_TAGS),
    ("<answer>A</answer><answer>A</answer>", TWO, OPEN_R1_TAGS),
    ('{"answer":"A"}, {"answer":"B"}', TWO, JSON_REPAIR),
    ('lorem ```json {"answer":"A"} ``` ipsum ```json {"answer":"B"} ``` 42', TWO, JSON_REPAIR),
    ('[{"answer":"A"},{"answer":"B"}]', TWO, JSON_REPAIR),
    ("Answer: A, C\nAnswer: B, D", NO_OPTION, FRONTIER),
    # what is not all of it
    ("Answer: D, not B", NO_OPTION, DS4),
    ("Answer: rules out C, leaving D", NO_OPTION, DS4),
    ("Answer: I think it is C", NO_OPTION, DS4),
    ("ANSWER: B, not C", NO_OPTION, EVALSCOPE_CODE),
    ("Answer: B because C is not valid", NO_OPTION, GYM),
    ("The answer is C because I computed the integral.", NO_OPTION, OMLX),
    ("The answer is B. Note that A is a common distractor.", NO_OPTION, OMLX),
    ("ANSWER IS D. A is incorrect.", NO_OPTION, OMLX),
    ("The correct answer is B. Here's why... option B is correct because...", NO_OPTION, VLMEVAL),
    ("The answer is for sure D, it can't be A or B", NO_OPTION, LIGHTEVAL),
    ("The answer: D, it doesn't make sense for it to be A or B", NO_OPTION, LIGHTEVAL),
    ("The answer is not C, it's D.", NO_OPTION, MEDARC),
    ("ANSWER: B\nLet me know if you need more.", AFTER, EVALSCOPE),
    ("The correct answer is D. neither side\n\nA and B are incorrect because ...", AFTER, MEDARC),
    ("The best answer is:  (A)\n03/19/2002", AFTER, COT),
    ("Explanation: it is dark.\nAnswer: B\nConfidence: 80%", AFTER, NEMO_HLE),
    ("<answer> B </answer>\n<analysis> dark </analysis>\n<confidence> 0.9", AFTER, STEERING),
    ('```\n{\n  "answer": "B"\n}\n```\nThis should do the trick', AFTER, LANGCHAIN),
    ('Action: Testing\n\n```\n{"answer": "B"}\n```\nThis should do the trick', AFTER, LANGCHAIN),
    # no answer
    ("D. it can't be A or B", NONE, LIGHTEVAL),
    ("It's not A because it doesn't make sense, therefore I think it's B", NONE, LIGHTEVAL),
    ("thinking about it I think the correct answer is C", NONE, LIGHTEVAL),
    ("Based on the evidence, therefore B is correct.", NONE, MEDARC),
    ("I think it's C", NONE, MEDARC),
    ("A is wrong. B seems unlikely. D", NONE, MEDARC),
    ("Definitely not C!", NONE, MEDARC),
    ("Could be (A) or (B), but I choose (C)", NONE, MEDARC),
    ("Based on the symptoms, both sides is most likely.", NONE, MEDARC),
    ("I don't know", NONE, MEDARC),
    ("Considering the options:\n- A is wrong\n- C matches perfectly\n\nC", NONE, MEDARC),
    ("Actually this one is tricky, I'm unsure", NONE, SIA),
    ("I cannot determine the answer.", NONE, SIA),
    ("Error: rate limited", NONE, SIA),
    ("I'm sorry, but without the image provided", NONE, VLMEVAL_CODE),
    ("Sorry, I can't help with images of people yet.", NONE, VLMEVAL_CODE),
    ("Antwort:\n\nAntwort: C", NONE, SIMPLE_GERMAN),
    ("选项 (B) $3.3\\mathrm{MeV}$。", NONE, AGIEVAL),
    ("No tags at all", NONE, OPEN_R1),
    ("<think>Only thinking</think>", NONE, OPEN_R1),
    ("This is a reasoning section</think>", NONE, VLLM),
    ("", NONE, VLLM),
    ("ANSWERS: ", "empty answer", INSPECT_TESTS),
    ("<think>It is a dog.</think>\n<answer></answer>. ", "empty answer", VISUAL_RFT),
    # cut off, or tags in a mess
    ("<think>This is a reasoning section", "the reasoning is cut off", VLLM),
    ("<think>reasoning only Final answer: C", "the reasoning is cut off", MEDARC),
    ("<think>Missing closing</think><answer>B", "the answer is cut off", OPEN_R1),
    ("<think>no end</answer><answer>B</think>", "a tag inside the reasoning", OPEN_R1),
    (
        "<think>first</think> draft <think>second</think>\n\nFinal answer: B",
        "a tag inside the reasoning",
        MEDARC,
    ),
    ('Here is your JSON: {"answer": "B', "broken JSON", JSON_REPAIR),
    ('{ "reasoning" : "so the answer is B",\n"answer": "', "broken JSON", TRUNCATED),
]

# A reply that asks STEM with the options TWO_SIDES, and where it was seen.
STEM = "Which side is it?"
TWO_SIDES = ("left", "right")
_LINES = f"{STEM}\nA) left\nB) right"
QUESTIONS = [
    (f"\n    Question 1: {STEM}\n    A) left\n    B) right\n    Correct Answer: B\n", BIOMENTOR),
    (f"Question 1: {_LINES}\nCorrect Answer: B\nExplanation: It is dark.\nA) is bright.", BILAL),
    (f"## MCQ\nQuestion: {_LINES}\nCorrect Answer: A", YOUGEN),
    (f"1. {STEM}\na) left\nb) right\nAnswer: a", GAURAV),
    (f"{_LINES}\nAnswer: B", HACK),
    (f"Question: {STEM}\nAnswer options:\nA. left\nB. right", LLAVA_PROMPT),
    (f"Q: {STEM}\nAnswer choices:\n(A) left\n(B) right", CHOICES),
    (f"**Question 15 (1 point)**\n\n{STEM}\n\nOptions:\n\nA. left\n\nB. right\n\n---", LEARNING),
    (f"**Question 15 (1 point)**\n\n{STEM}\n\nChoices:\n\nA. left\nB. right", LEARNING),
    (
        f'```json\n[{{"question": "{STEM}", "options": ["A) left", "B) right"], '
        '"correct_answer": "A"}]\n```',
        QUIZCRAFTER,
    ),
    (
        f'```\n{{"question": "{STEM}", "options": {{"A": "left", "B": "right"}}, '
        '"correct_option": "A", "explanation": "It is dark."}\n```',
        SCHOLA,
    ),
    (
        f'{{"question": "{STEM}", "optionA": "left", "optionB": "right", "correct_answer": "A"}}',
        ALFA,
    ),
    (
        f'{{"quiz": [{{"question": "{STEM}", "options": ["left", "right"], "answer": "left", '
        '"difficulty": "easy"}], "related_topics": ["lungs"]}',
        WIKI,
    ),
    (f'{{"question": "{STEM}", "options": ["left", "right"], "answer": 1}}', SMART_ELEARNING),
    (
        f'{{"title": "Lungs", "questions": [{{"question": "{STEM}", "options": '
        '["left", "right"], "answer": "left", "explanation": "It is dark."}]}',
        QUICKQUIZ,
    ),
    (
        f'{{"question1": {{"Question": "{STEM}", "Answer1": "left", "Answer2": "right", '
        '"Correct answer": "left"}}',
        IMAGE2QUIZ,
    ),
    (
        f"Here's the question:\n\n```xml\n<question>{STEM}</question>\n"
        "<options>left | right</options>\n```",
        ION,
    ),
    (f"<question>{STEM}</question><options>left | right</options><|im_end|>", MOLTIS),
    (
        f"It is a lung.\n</think>\n\n<question>{STEM}</question><options>left|right</options>",
        DEEPSEEK,
    ),
]

BAD_QUESTIONS = [
    (f"Question 1: {_LINES}\n\nQuestion 2: {_LINES}", "more than one question", BILAL),
    (
        f'[{{"question": "{STEM}", "options": ["left", "right"]}}, '
        f'{{"question": "{STEM}", "options": ["left", "right"]}}]',
        "more than one question",
        QUIZCRAFTER,
    ),
    (
        f"**Question 15 (1 point)**\n\n{STEM}\n\nOptions:\n\nA. left\nB. right ✅",
        "an option is marked as the answer",
        LEARNING,
    ),
    (f'{{"question": "{STEM}", "options": ["left", "ri', "broken JSON", TRUNCATED),
    (f"<question>{STEM}</question><options>left | ri", "the options are cut off", CLAUDE_MEM),
    ("<question>Which side is", "the question is cut off", CLAUDE_MEM),
    ("I can't process this file.", "no question tag", VLMEVAL_CODE),
    ("<think>This is a reasoning section", "the reasoning is cut off", VLLM),
    (f"{_LINES}\nLet me know if you need more.", "options in no known form", EVALSCOPE),
]
