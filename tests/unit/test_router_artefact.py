import json

import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.router_card import FORMAT, file_record, read_card
from hybrid_batch.engines.surface import VERSION
from tests.support.paper_router import MEMBERS, NEEDED


def card_of(folder):
    files = {name: file_record(folder / name) for name in NEEDED}
    return {
        "format": FORMAT,
        "name": "tiny",
        "label_kind": "det",
        "encoder": {"source": "here", "pooling": "mean", "normalize": True, "max_length": 256, "dim": 8},
        "members": MEMBERS,
        "files": {name: {"sha256": record.sha256, "bytes": record.bytes} for name, record in files.items()},
    }


@pytest.fixture
def artefact(tmp_path):
    folder = tmp_path / "router"
    (folder / "encoder").mkdir(parents=True)
    for name in NEEDED:
        (folder / name).write_bytes(f"bytes of {name}".encode())
    (folder / "router.json").write_text(json.dumps(card_of(folder)))
    return folder


def rewrite(folder, **changes):
    card = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(json.dumps(card | changes))


def test_a_whole_artefact_is_read(artefact):
    card = read_card(artefact)
    assert (card.name, card.label_kind, card.dim, card.max_length) == ("tiny", "det", 8, 256)
    assert read_card((artefact / "router.json").read_bytes()) == read_card(str(artefact)) == card


def test_a_member_says_whether_it_reads_the_surface(artefact):
    assert not read_card(artefact).members[0].surface
    rewrite(artefact, members=[{**MEMBERS[0], "surface": VERSION}])
    assert read_card(artefact).members[0].surface


def test_the_fingerprint_changes_with_any_file(artefact):
    before = read_card(artefact).fingerprint
    (artefact / "head.safetensors").write_bytes(b"another head")
    (artefact / "router.json").write_text(json.dumps(card_of(artefact)))
    assert read_card(artefact).fingerprint != before


@pytest.mark.parametrize("name", NEEDED)
def test_one_flipped_byte_is_refused_with_both_hashes(artefact, name):
    data = bytearray((artefact / name).read_bytes())
    data[3] ^= 1
    expected = file_record(artefact / name).sha256
    (artefact / name).write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        read_card(artefact)
    assert f"{name} was changed" in str(refused.value)
    assert expected in str(refused.value)
    assert file_record(artefact / name).sha256 in str(refused.value)


def test_a_missing_file_is_named(artefact):
    (artefact / "encoder" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"encoder/tokenizer\.json is missing, expected \d+ bytes"):
        read_card(artefact)


def test_a_file_the_card_does_not_list_is_refused(artefact):
    (artefact / "encoder" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match=r"encoder/pytorch_model\.bin is not listed"):
        read_card(artefact)


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no router\.json there; expected a folder in format hybrid-batch-router/1"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00\x01", "not JSON"),
        (b"[1, 2]", "format is None"),
        (b'{"model_type": "bert"}', "format is None, expected 'hybrid-batch-router/1'"),
        (b'{"format": "hybrid-batch-router/2"}', "format is 'hybrid-batch-router/2'"),
    ],
)
def test_a_foreign_card_is_refused(content, words):
    with pytest.raises(ConfigError, match=words):
        read_card(content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": []}, "members is empty, expected at least one"),
        ({"members": [{"head": "head.safetensors"}]}, "expected head (a file) and encoder (a folder)"),
        (
            {"members": [{**MEMBERS[0], "surface": "surface/0"}]},
            "members[0]: surface is 'surface/0', allowed is none or 'surface/1'",
        ),
        ({"tasks": ["a", 1]}, "tasks is ['a', 1], expected a list of names"),
        ({"encoder": {"pooling": "cls", "normalize": True}}, "encoder.pooling is 'cls', allowed is 'mean'"),
        ({"encoder": {"pooling": "mean", "normalize": True, "dim": 0}}, "encoder.dim is 0"),
        ({"encoder": {"pooling": "mean", "normalize": True, "dim": 8, "max_length": "256"}}, "max_length is '256'"),
        ({"name": None}, "name is None, expected a str"),
        ({"files": {}}, "files lacks head.safetensors"),
    ],
)
def test_a_card_with_a_wrong_field_is_refused_by_its_name(artefact, changes, words):
    rewrite(artefact, **changes)
    with pytest.raises(ConfigError) as refused:
        read_card(artefact)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hosts.txt", "encoder/model.bin", "encoder\\model.json"])
def test_a_card_that_lists_a_file_elsewhere_or_of_another_kind_is_refused(artefact, name):
    card = card_of(artefact)
    card["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    with pytest.raises(ConfigError, match="files names"):
        read_card(json.dumps(card).encode())


def test_a_file_record_without_a_hash_is_refused(artefact):
    card = card_of(artefact)
    card["files"]["head.safetensors"] = {"sha256": "abc", "bytes": 1}
    with pytest.raises(ConfigError, match="expected sha256"):
        read_card(json.dumps(card).encode())
