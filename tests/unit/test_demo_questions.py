import datetime
import io
import json
import re
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout

import pytest

from hybrid_batch.demo.checks import score
from hybrid_batch.demo.questions import (
    HELDOUT,
    TRAIN,
    all_questions,
    questions_of,
    split_of,
    write_answers,
    write_questions,
)


def of_task(task):
    return [question for question in all_questions() if question.task == task]


def test_sixteen_tasks_of_about_forty_questions_with_ids_and_prompts_of_their_own():
    questions = all_questions()
    counts = Counter(question.task for question in questions)
    assert len(counts) == 16
    assert all(20 <= count <= 60 for count in counts.values())
    assert 600 <= len(questions) <= 680
    assert len({question.query_id for question in questions}) == len(questions)
    assert len({question.prompt for question in questions}) == len(questions)


def test_another_process_makes_the_same_questions():
    code = "from hybrid_batch.demo.questions import all_questions; print(all_questions())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(all_questions())


def test_the_split_hangs_on_the_id_alone_and_is_about_sixty_to_forty():
    known = {"arith-0001": TRAIN, "arith-0002": TRAIN, "world-0001": TRAIN, "code-0001": TRAIN}
    assert {name: split_of(name) for name in known} == known
    share = len(questions_of(TRAIN)) / len(all_questions())
    assert 0.55 < share < 0.65
    for task in {question.task for question in all_questions()}:
        assert {question.split for question in of_task(task)} == {TRAIN, HELDOUT}


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="allowed: train, heldout"):
        questions_of("test")


def test_the_reference_itself_is_a_right_answer():
    for question in all_questions():
        for answer in question.answer.split("|"):
            assert score(answer, question.answer, question.check) == 1.0, question


def test_repeating_the_question_is_no_right_answer():
    for question in all_questions():
        if question.task in ("world", "sequence", "units", "translate", "rewrite", "sentiment"):
            words = question.prompt.split("Answer with")[0]
            labelled = question.check.startswith("label")
            assert labelled or score(words, question.answer, question.check) == 0.0, question


def test_sums_are_right():
    signs = {"+": int.__add__, "-": int.__sub__, "times": int.__mul__, "divided by": int.__floordiv__}
    for question in of_task("arith"):
        left, sign, right = re.fullmatch(r"What is (\d+) (\D+) (\d+)\? .*", question.prompt).groups()
        assert int(question.answer) == signs[sign](int(left), int(right))


def test_programs_print_what_the_answer_says():
    for question in of_task("code"):
        program = question.prompt.split("\n", 1)[1]
        with redirect_stdout(io.StringIO()) as printed:
            exec(program, {})  # our own one-line print statements
        assert printed.getvalue().strip() == question.answer


def test_dates_are_right():
    seen = 0
    for question in of_task("dates"):
        found = re.match(r"Which date is (\d+) days after (\w+ \d+)\?", question.prompt)
        if found:
            start = datetime.datetime.strptime(f"{found[2]} 2023", "%B %d %Y")
            end = start + datetime.timedelta(days=int(found[1]))
            assert question.answer == f"{end:%B} {end.day}"
            seen += 1
    assert seen > 0


def test_comparisons_are_right():
    for question in of_task("compare"):
        found = re.match(r"Which number is (larger|smaller), ([\d.]+) or ([\d.]+)\?", question.prompt)
        if found:
            best = {"larger": max, "smaller": min}[found[1]]
            assert question.answer == best(found[2], found[3], key=float)


def test_lettered_answers_name_the_right_option():
    for question in of_task("choice"):
        capital = re.match(r"Which city is the capital of (.+)\?", question.prompt)
        if capital:
            option = re.search(rf"^{question.answer}\) (.+)$", question.prompt, re.MULTILINE)[1]
            facts = {fact.prompt: fact.answer for fact in of_task("world")}
            asked = f"What is the capital of {capital[1]}? Answer with the name only."
            assert option in facts[asked].split("|")


def test_the_files_of_a_job_hold_no_answers_and_the_answers_their_checks(tmp_path):
    rows = write_questions(tmp_path / "in" / "questions.jsonl", HELDOUT)
    assert write_answers(tmp_path / "in" / "answers.jsonl", HELDOUT) == rows == len(questions_of(HELDOUT))
    questions = [json.loads(line) for line in (tmp_path / "in" / "questions.jsonl").read_text().splitlines()]
    answers = [json.loads(line) for line in (tmp_path / "in" / "answers.jsonl").read_text().splitlines()]
    assert {tuple(row) for row in questions} == {("query_id", "task", "prompt")}
    assert {tuple(row) for row in answers} == {("query_id", "task", "answer", "check")}
    assert [row["query_id"] for row in questions] == [row["query_id"] for row in answers]
