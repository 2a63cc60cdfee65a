import torch
import torch.nn.functional as F


def slow_gradients(image, layers, voted):
    """Values (H, W, C) of the CNN and the gradients of weights, scales and shifts, by torch in double precision."""
    layers = [[tensor.detach().double().requires_grad_() for tensor in layer] for layer in layers]
    x = torch.from_numpy(image.astype(float) / 255).permute(2, 0, 1)[None]
    for index, (weight, bias, scale, shift) in enumerate(layers):
        x = F.conv2d(F.relu(x) if index else x, weight, bias, padding="same")
        x = F.batch_norm(x, None, None, scale, shift, training=True)
    F.cross_entropy(x, torch.from_numpy(voted)[None]).backward()
    weights = [weight.grad.permute(0, 2, 1, 3) for weight, _, _, _ in layers]
    rest = [layer[part].grad for part in (2, 3) for layer in layers]
    return x[0].detach().permute(1, 2, 0).numpy(), [gradient.numpy() for gradient in weights + rest]
