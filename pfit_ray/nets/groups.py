"""The four groups of parameters that the optimiser treats differently."""

from typing import Literal, TypedDict

from torch import nn

Role = Literal["backbone_weight", "backbone_bias", "new_weight", "new_bias"]
ROLES: tuple[Role, ...] = ("backbone_weight", "backbone_bias", "new_weight", "new_bias")


class ParameterGroup(TypedDict):
    """Trainable parameters with one role."""

    params: list[nn.Parameter]
    role: Role


def parameter_groups(network: nn.Module) -> list[ParameterGroup]:
    """Trainable parameters by role, in the order of `ROLES`; a role without parameters is left out.

    Pretrained layers live under `network.backbone`, all others are new. Scales of normalisations count as
    weights. The published recipe (Jo & Yu, ICIP 2021) multiplies the learning rate by 1, 2, 10 and 20 and
    decays the weights only.
    """
    params: dict[Role, list[nn.Parameter]] = {role: [] for role in ROLES}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            bias = name.endswith("bias")
            if name.startswith("backbone."):
                params["backbone_bias" if bias else "backbone_weight"].append(parameter)
            else:
                params["new_bias" if bias else "new_weight"].append(parameter)
    return [{"params": members, "role": role} for role, members in params.items() if members]
