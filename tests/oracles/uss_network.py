import torch
import torch.nn.functional as F
from oracles.uss import slow_majority_vote


def slow_gradients(image, layers, voted):
    """Values (H, W, C) of the CNN and the gradients of weights, scales and shifts, by torch in double precision."""
    layers = doubled(layers)
    x = slow_values(image, layers)
    F.cross_entropy(x, torch.from_numpy(voted)[None]).backward()
    weights = [weight.grad.permute(0, 2, 1, 3) for weight, _, _, _ in layers]
    rest = [layer[part].grad for part in (2, 3) for layer in layers]
    return x[0].detach().permute(1, 2, 0).numpy(), [gradient.numpy() for gradient in weights + rest]


def slow_votes(image, superpixels, layers, iterations):
    """The vote (H, W) of each iteration, by torch in double precision."""
    layers = doubled(layers)
    optimiser = torch.optim.SGD([tensor for layer in layers for tensor in layer], lr=0.05, momentum=0.9)
    for _ in range(iterations):
        values = slow_values(image, layers)
        voted = slow_majority_vote(values[0].detach().argmax(dim=0).numpy(), superpixels)
        yield voted
        optimiser.zero_grad()
        F.cross_entropy(values, torch.from_numpy(voted)[None]).backward()
        optimiser.step()


def doubled(layers):
    return [[tensor.detach().double().requires_grad_() for tensor in layer] for layer in layers]


def slow_values(image, layers):
    x = torch.from_numpy(image.astype(float) / 255).permute(2, 0, 1)[None]
    for index, (weight, bias, scale, shift) in enumerate(layers):
        x = F.conv2d(F.relu(x) if index else x, weight, bias, padding="same")
        x = F.batch_norm(x, None, None, scale, shift, training=True)
    return x
