"""Pipelines and models of transformers, tiny and random, saved by Noria and by MLflow, each loaded by the other. Nothing is downloaded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Libraries that transformers finds warn of each other.
    transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from noria import models
from noria.errors import Forbidden
from noria.models import digests
from noria.models.flavors import transformers as flavor

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "e"]
SIZES: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 10,
    "max_position_embeddings": 32,
}
DISTIL: dict[str, Any] = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "vocab_size": 10, "max_position_embeddings": 32}


def tokenizer() -> Any:
    made = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **named)


def pipeline(task: str, model: str, config: str, **sizes: Any) -> Callable[[], Any]:
    def make() -> Any:
        torch.manual_seed(0)
        made = getattr(transformers, model)(getattr(transformers, config)(**sizes)).eval()
        return transformers.pipeline(task, model=made, tokenizer=tokenizer(), device="cpu")

    return make


TEXTS = ["a b c", "d e"]
PIPELINES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "bert": (pipeline("text-classification", "BertForSequenceClassification", "BertConfig", **SIZES), TEXTS),
    "three labels": (pipeline("text-classification", "BertForSequenceClassification", "BertConfig", num_labels=3, **SIZES), TEXTS),
    "distilbert": (pipeline("text-classification", "DistilBertForSequenceClassification", "DistilBertConfig", **DISTIL), TEXTS),
    "roberta": (pipeline("text-classification", "RobertaForSequenceClassification", "RobertaConfig", **SIZES | {"pad_token_id": 0}), TEXTS),
    "electra": (pipeline("text-classification", "ElectraForSequenceClassification", "ElectraConfig", embedding_size=8, **SIZES), TEXTS),
    "albert": (pipeline("text-classification", "AlbertForSequenceClassification", "AlbertConfig", embedding_size=8, **SIZES), TEXTS),
    "tokens": (pipeline("token-classification", "BertForTokenClassification", "BertConfig", **SIZES), ["a b c"]),
    "features": (pipeline("feature-extraction", "BertModel", "BertConfig", **SIZES), ["a b c"]),
    "fill": (pipeline("fill-mask", "BertForMaskedLM", "BertConfig", **SIZES), ["a [MASK] c"]),
    "gpt": (pipeline("text-generation", "GPT2LMHeadModel", "GPT2Config", n_embd=8, n_layer=1, n_head=2, vocab_size=10, n_positions=32, bos_token_id=2, eos_token_id=3), ["a b"]),
}  # fmt: skip


def said(pipe: Any, texts: list[str]) -> Any:
    torch.manual_seed(0)
    return flavor.predictor(pipe)(np.array(texts))


def same(found: Any, known: Any) -> None:
    assert json.dumps(plain(found)) == json.dumps(plain(known))


def plain(value: Any) -> Any:
    from noria.serve.protocols.mlflow import plain

    return rounded(plain(value))


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_goes_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    require("mlflow", bool(pytest.importorskip("mlflow")), "pip install mlflow")
    import mlflow

    make, texts = PIPELINES[name]
    pipe = make()
    if name == "gpt":
        pipe.model.generation_config.do_sample = False
        pipe.model.generation_config.max_new_tokens = 4
    known = said(pipe, texts)
    models.save(pipe, tmp_path / "ours")
    assert list((tmp_path / "ours" / "model").glob("*.safetensors")) and not list((tmp_path / "ours").rglob("*.bin"))
    ours = models.load(tmp_path / "ours")
    torch.manual_seed(0)
    same(ours.predict(texts), known)
    theirs = mlflow.transformers.load_model(str(tmp_path / "ours"))
    same(said(theirs, texts), known)
    torch.manual_seed(0)
    mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(texts)
    mlflow.transformers.save_model(pipe, str(tmp_path / "theirs"), pip_requirements=["transformers"])
    torch.manual_seed(0)
    same(models.load(tmp_path / "theirs").predict(texts), known)


def test_mlflows_answers_for_texts_are_ours(tmp_path: Path) -> None:
    import mlflow

    models.save(PIPELINES["bert"][0](), tmp_path / "m", input_example=TEXTS)
    same(models.load(tmp_path / "m").predict(TEXTS), mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(TEXTS))


BARE: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZES)),
    "gpt": lambda: transformers.GPT2Model(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10, n_positions=32)),
    "vit": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(**{each: SIZES[each] for each in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}, image_size=8, patch_size=4)),
}  # fmt: skip


@pytest.mark.parametrize("name", BARE)
def test_a_model_without_a_pipeline(name: str, tmp_path: Path) -> None:
    import mlflow

    torch.manual_seed(0)
    model = BARE[name]().eval()
    x = np.zeros((2, 3, 8, 8), "float32") if name == "vit" else np.array([[5, 6], [7, 8]])
    with torch.no_grad():
        known = model(torch.from_numpy(x))[0].numpy()
    models.save(model, tmp_path / "m", input_example=x)
    np.testing.assert_allclose(models.load(tmp_path / "m").predict(x), known, atol=1e-6)
    np.testing.assert_allclose(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(x), known, atol=1e-6)


def test_weights_that_are_a_pickle_and_code_of_the_model_are_refused(tmp_path: Path) -> None:
    pipe = PIPELINES["bert"][0]()
    models.save(pipe, tmp_path / "m")
    (tmp_path / "m" / digests.FILE).unlink()
    place = tmp_path / "m" / "model"
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(Forbidden, match="never run"):
        models.load(tmp_path / "m")
    with pytest.raises(Forbidden, match="never run"):
        models.load(tmp_path / "m", allow_pickle=True, in_process=True)
    (place / "config.json").write_text(json.dumps(config))
    torch.save(pipe.model.state_dict(), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    with pytest.raises(Forbidden, match="no safetensors"):
        models.load(tmp_path / "m")
