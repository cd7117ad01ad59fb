"""Models of transformers: a folder is a model, with the input that its processor makes; the small one is loaded again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import shrinkspeech
from shrinkspeech import label, load, load_into
from shrinkspeech.data.frontend import parse_features
from shrinkspeech.data.pretrained import front_end
from shrinkspeech.errors import InputError, LoadError
from shrinkspeech.graph.calls import plain
from shrinkspeech.graph.captured import Captured
from shrinkspeech.loading.factory import build
from shrinkspeech.loading.huggingface import class_named, load_folder
from shrinkspeech.loading.pretrained import save_pretrained
from shrinkspeech.loading.processors import read_folder
from tests.audio_files import corpus
from tests.command import refused, run

hf = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'shrinkspeech[hf]'")

LABELS: dict[str, Any] = {"id2label": {0: "yes", 1: "no"}, "label2id": {"yes": 0, "no": 1}}
WAVES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16),
    "conv_stride": (20, 16),
    "conv_kernel": (40, 16),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    **LABELS,
}
SPECTRA: dict[str, Any] = LABELS | dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=48, num_mel_bins=32
)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    hf.utils.logging.disable_progress_bar()
    yield
    hf.utils.logging.enable_progress_bar()


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("waves")
    hf.Wav2Vec2ForSequenceClassification(hf.Wav2Vec2Config(**WAVES)).save_pretrained(path)
    hf.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=8_000).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def spectra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("spectra")
    hf.ASTForAudioClassification(hf.ASTConfig(**SPECTRA)).save_pretrained(path)
    hf.ASTFeatureExtractor(num_mel_bins=32, max_length=48).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def captured(waves: Path) -> Captured:
    return load(waves)


def model_of(path: Path) -> Any:
    """As transformers loads it, with no word on where it is from."""
    name = json.loads((path / "config.json").read_text())["architectures"][0]
    return getattr(hf, name).from_pretrained(path).eval()


def cut(captured: Captured, **share: float) -> Captured:
    """Sliced to a share of the groups whose names end so, to units that are drawn."""
    groups, generator = label(captured), torch.Generator().manual_seed(1)
    kept = {}
    for group in groups.shrinkable:
        count = next(
            (round(group.size * x) for end, x in share.items() if end.replace("__", "#") in group.name), group.size
        )
        kept[group.name] = torch.randperm(group.size, generator=generator)[: max(1, count)].tolist()
    return shrinkspeech.slice(captured, groups, kept)


def assert_same(model: nn.Module, captured: Captured) -> None:
    """At the example and, where the length may be another, at another."""
    x = captured.example_inputs[0]
    for each in (x, x[:, : x.shape[1] * 3 // 4] if 1 in captured.dynamic[0] else x[:1]):
        with torch.no_grad():
            assert torch.allclose(model(each).logits, captured.graph_module(each), atol=1e-5)


def test_a_folder_is_a_model(waves: Path, captured: Captured, tmp_path: Path) -> None:
    assert captured.example_inputs[0].shape == (2, 8_000)
    assert captured.dynamic == (frozenset({0, 1}),)
    assert "Wav2Vec2FeatureExtractor makes of audio at 8000 Hz (--features wave:1,norm=item)" in captured.notes[0]
    assert_same(model_of(waves), captured)
    captured.save(tmp_path / "m.pt2")
    assert b"SequenceClassifierOutput" not in (tmp_path / "m.pt2").read_bytes(), "loading would need transformers"


def test_records_become_tensors() -> None:
    """Scores alone, or the hidden states where there are none; a speaker's vector stays beside the scores."""
    record, outputs = hf.utils.ModelOutput, hf.modeling_outputs
    x, y = torch.ones(2, 3), torch.zeros(2, 5)
    assert plain(outputs.SequenceClassifierOutput(loss=x, logits=y, hidden_states=(x, x)), record) is y
    assert plain(outputs.Wav2Vec2BaseModelOutput(last_hidden_state=x, extract_features=y), record) is x
    assert plain((outputs.BaseModelOutput(last_hidden_state=x), y), record) == (x, y)
    assert plain(outputs.XVectorOutput(logits=x, embeddings=y), record) == {"logits": x, "embeddings": y}
    assert plain({"logits": x}, record) == {"logits": x}, "a dictionary of the user's own stays one"


def test_a_program_with_a_record(spectra: Path, tmp_path: Path) -> None:
    """As its owner exports it: what is made of it is loaded without transformers, and holds no more than the scores need."""
    model, x = model_of(spectra), torch.randn(2, 48, 32)
    model.config.output_hidden_states = True
    program = torch.export.export(model, (x,), strict=False)
    captured = shrinkspeech.capture(program)
    assert torch.allclose(captured.graph_module(x), model(x).logits, atol=1e-5)
    captured.save(tmp_path / "m.pt2")
    assert torch.equal(load(tmp_path / "m.pt2").graph_module(x), captured.graph_module(x))


def test_a_class_is_a_model(waves: Path, spectra: Path) -> None:
    arguments = ", ".join(f"{name}={value!r}" for name, value in SPECTRA.items())
    built = build(f"transformers:ASTForAudioClassification({arguments})")
    assert built(torch.zeros(2, 48, 32)).logits.shape == (2, 2)
    with pytest.raises(LoadError, match="takes the arguments of a configuration, each by its name"):
        build("transformers:ASTModel(3)")
    with pytest.raises(LoadError, match="cannot be built of its configuration"):
        build("transformers:ASTModel(hidden_size='wide')")
    named, _ = load_folder(spectra, class_named("transformers:ASTModel"))
    assert type(named) is hf.ASTModel
    with pytest.raises(LoadError, match=r"does not hold all weights of ASTModel|cannot be loaded as ASTModel"):
        load("transformers:ASTModel", weights=waves)


@pytest.mark.parametrize("kind", ["waves", "spectra", "whisper"])
def test_input_is_what_the_processor_makes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "whisper":
        hf.WhisperFeatureExtractor(feature_size=20, chunk_length=1).save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text("{}")
    path = tmp_path if kind == "whisper" else request.getfixturevalue(kind)
    folder = read_folder(path)
    wave = (0.1 * np.random.default_rng(0).standard_normal(6_000) + 0.02).astype(np.float32)
    theirs = hf.AutoFeatureExtractor.from_pretrained(path)(wave, sampling_rate=folder.rate, return_tensors="pt")
    wanted = next(theirs[name] for name in ("input_values", "input_features") if name in theirs)
    layout = {"waves": "S", "spectra": "TF", "whisper": "FT"}[kind]
    found = front_end(parse_features(folder.features or ""), folder.rate, layout)(torch.from_numpy(wave)[None])
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted.float(), atol=1e-3)


FITS = ["--target-flops", "60%", "--steps", "8", "--distil", "0", "--workers", "0", "--batch-size", "4"]


def test_the_commands(
    spectra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fitted on clips with the labels of the configuration, loaded by transformers, and exported with what it needs."""
    manifest = corpus(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(["fit", spectra, "--task", "classify", "--data", manifest, *FITS, "-o", "run"], capsys)
    assert code == 0, err
    assert "labels in the order of the outputs: 0 yes, 1 no" in err
    small = load("run/model.pt2")
    assert "wrote run/transformers, for from_pretrained" in out
    assert_same(model_of(Path("run/transformers")), small)
    assert json.loads(Path("run/transformers/preprocessor_config.json").read_text())["max_length"] == 48
    mine = model_of(spectra)
    assert load_into(mine, "run").difference <= 1e-4
    assert_same(mine, small)
    assert run(["export", "run", "-o", "small.onnx"], capsys)[0] == 0
    entries = {entry.key: entry.value for entry in onnx.load("small.onnx").metadata_props}
    assert entries["sample_rate"] == "16000"
    assert entries["features"] == read_folder(spectra).features
    assert json.loads(entries["labels"]) == ["yes", "no"]
    assert json.loads(entries["processor"])["sampling_rate"] == 16_000


def test_widths_in_a_configuration(waves: Path, captured: Captured, tmp_path: Path) -> None:
    """Convolutions and the hidden size exactly; heads and feed-forward layers filled up with zeros where layers differ."""
    share = {"conv_layers": 0.5, "intermediate_dense": 0.6, "projection__1": 0.75, "q_proj__1": 0.75}
    small = cut(captured, **share, v_proj=0.5, projector=0.5)
    notes = save_pretrained(small, read_folder(waves), tmp_path / "small")
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert (config["conv_dim"], config["hidden_size"], config["intermediate_size"]) == ([8, 8], 24, 29)
    heads = config["num_attention_heads"], config["num_conv_pos_embedding_groups"]
    assert (heads, config["classifier_proj_size"]) == ((4, 2), 8)
    assert notes[0].startswith("filled up with zeros to ")
    assert_same(model_of(tmp_path / "small"), small)


def test_widths_that_no_configuration_can_say(waves: Path, captured: Captured, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    narrow = cut(captured, projection__1=0.4)
    with pytest.raises(InputError, match="4 heads of 8 do not fit into the width 12 of their input"):
        save_pretrained(narrow, read_folder(waves), tmp_path / "small")
    assert list(tmp_path.iterdir()) == [tmp_path / "small"]
    mine = model_of(waves)
    load_into(mine, narrow)
    assert_same(mine, narrow)


@pytest.fixture
def broken(waves: Path, tmp_path: Path) -> Any:
    """A copy of a folder with other entries in its configuration."""

    def change(**entries: Any) -> Path:
        shutil.copytree(waves, tmp_path / "broken", dirs_exist_ok=True)
        config = json.loads((waves / "config.json").read_text())
        (tmp_path / "broken/config.json").write_text(json.dumps({**config, **entries}))
        return tmp_path / "broken"

    return change


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            {"architectures": None},
            "names no architectures: say which class the model is of with --factory transformers:CLASS",
        ),
        ({"architectures": ["NoSuchModel"]}, "has no model of the class NoSuchModel"),
        (
            {"architectures": ["Own"], "auto_map": {"AutoModel": "m.M"}},
            "code it brings itself (auto_map), and such code is not run",
        ),
        ({"architectures": ["Wav2Vec2Config"]}, "has no model of the class Wav2Vec2Config"),
        (
            {"architectures": ["Wav2Vec2ForCTC"], "vocab_size": 7},
            "does not hold all weights of Wav2Vec2ForCTC (lm_head.bias is missing",
        ),
        ({"num_hidden_layers": 3}, "does not hold all weights of Wav2Vec2ForSequenceClassification"),
        ({"hidden_size": 30}, "cannot be loaded as Wav2Vec2ForSequenceClassification"),
    ],
)
def test_what_cannot_be_loaded_is_refused(broken: Any, entries: dict[str, Any], expected: str) -> None:
    with pytest.raises(LoadError) as error:
        load(broken(**entries))
    assert expected in str(error.value)


def test_without_transformers(waves: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = "need the package transformers, which is not installed: pip install 'shrinkspeech[hf]'"
    assert said in refused(["inspect", waves], capsys)
    assert said in refused(["inspect", "transformers:ASTModel", "--example", "2x8"], capsys)


def test_another_rate_is_refused(waves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "was trained at 8000 Hz: leave --sample-rate 44100 out" in refused(
        ["inspect", waves, "--sample-rate", "44100"], capsys
    )
    with pytest.raises(LoadError, match="leave --factory-args out"):
        load(waves, factory_args="x.yaml")


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inside(x)
        return y


def test_a_folder_of_weights_for_code_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LoadError, match="names no architectures"):
        load(tmp_path)
    factory = f"{Path(__file__).resolve()}:Own"
    with pytest.raises(LoadError, match="give the file of weights in its place"):
        load(tmp_path, factory=factory, example=["2x9x6"])
    model = Own().eval()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    x = torch.randn(2, 9, 6)
    for options in ({"path": tmp_path, "factory": factory}, {"path": factory, "weights": tmp_path}):
        assert torch.equal(load(**options, example=["2x9x6"]).graph_module(x), model(x))
