"""What people write, run by the tests with MLFLOW_TRACKING_URI alone: `mlflow.autolog()` and a fit with the library that is asked for."""

import json
import os
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import mlflow
import numpy as np

kind = sys.argv[1]
mlflow.autolog(log_models=kind in ("sklearn", "keras"))
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = (x[:, 0] > 0).astype("int64")


def sklearn() -> None:
    from sklearn.linear_model import LogisticRegression

    LogisticRegression().fit(x, y)


def keras() -> None:
    import keras

    layers = [keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=2, verbose=0)


def lightning() -> None:
    import pytorch_lightning as pl
    import torch

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=16)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    pl.Trainer(max_epochs=2, logger=False, accelerator="cpu", **quiet).fit(Net(), data)


def transformers() -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    size = {"vocab_size": 32, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    data = [{"input_ids": torch.tensor([1, 2, 3, k]), "labels": torch.tensor(k % 2)} for k in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        options = {"logging_steps": 1, "report_to": ["mlflow"], "use_cpu": True, "save_strategy": "no", "disable_tqdm": True}
        arguments = TrainingArguments(folder, num_train_epochs=1, **options)
        model = BertForSequenceClassification(BertConfig(**size, max_position_embeddings=16))
        Trainer(model, arguments, train_dataset=data).train()


with mlflow.start_run() as started:
    {"sklearn": sklearn, "keras": keras, "lightning": lightning, "transformers": transformers}[kind]()
print(json.dumps({"run_id": started.info.run_id}))
