#!/usr/bin/env bash
# torch 2.14.1, torch.onnx.export(..., dynamo=False): a network in evaluation mode inside a wrapper that was never told is in
# training mode afterwards. The exporter remembers the outermost module's flag alone and sets it on everything at its end.
# Seen: the network's `training` is False before the export and True after it; the same input then gives two outputs,
# because its dropout is active. Nothing warns of the change.
# It hurts whoever wraps a network to put normalisation into the graph, and compares torch with the file afterwards: they
# seem to disagree. `training=TrainingMode.PRESERVE` leaves the network as it was.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 onnx==1.23.2 numpy
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import io

import torch
from torch import nn


class Wrapper(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image / 255)


for mode in ("EVAL", "PRESERVE"):
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Dropout(0.5)).eval()
    image = torch.full((1, 3, 8, 8), 100.0)
    before = network.training
    training = getattr(torch.onnx.TrainingMode, mode)
    torch.onnx.export(Wrapper(network), (image,), io.BytesIO(), dynamo=False, training=training)
    same = torch.equal(network(image), network(image))
    print(f"{mode}: training is {before} before, {network.training} after; two outputs of one input are equal: {same}")
    assert (before, network.training, same) == (False, mode == "EVAL", mode == "PRESERVE")
PYTHON
