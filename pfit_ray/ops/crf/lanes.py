"""Four floats at once inside compiled loops.

Loops over the few labels of a pixel are too short for the compiler to vectorise by itself, so the vectors are spelled
out. A `Lanes` value is one register on every processor that numba compiles for.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 4
"""Floats in a vector."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is ln 2; a multiple of the first has no rounding error
_EXP_TERMS = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
_EXPONENT_BIAS, _MANTISSA_BITS = 127, 23
EXP_FLOOR = -50.0
"""The exponential of anything lower is 0: its products would fall among the denormal numbers, which are slow."""


class LanesType(types.Type):
    """Numba's type of four float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes_type = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, front_end_type: Any) -> None:
        super().__init__(manager, front_end_type, _FLOATS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [value] * LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


def _arithmetic(operation: str) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return getattr(builder, operation)(*given)

    return code


def _reordered(*order: int) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.shuffle_vector(given[0], given[0], ir.Constant(_INTS, list(order)))

    return code


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """Four floats of a flat float32 array, from an index on."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], given[0], given[1])
        return builder.load(pointer, align=4)

    return lanes_type(array, types.intp), code


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write four floats into a flat float32 array, from an index on."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[2], _pointer(context, builder, signature.args[0], given[0], given[1]), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, lanes_type), code


@intrinsic
def spread(typing_context: Any, value: Any) -> Any:
    """The same float32 four times."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), given[0], _INT(0))
        return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))

    return lanes_type(types.float32), code


@intrinsic
def add(typing_context: Any, left: Any, right: Any) -> Any:
    """Sum, float by float."""
    return lanes_type(lanes_type, lanes_type), _arithmetic("fadd")


@intrinsic
def subtract(typing_context: Any, left: Any, right: Any) -> Any:
    """Difference, float by float."""
    return lanes_type(lanes_type, lanes_type), _arithmetic("fsub")


@intrinsic
def divide(typing_context: Any, left: Any, right: Any) -> Any:
    """Quotient, float by float."""
    return lanes_type(lanes_type, lanes_type), _arithmetic("fdiv")


@intrinsic
def add_scaled(typing_context: Any, total: Any, factor: Any, value: Any) -> Any:
    """`total + factor * value`, float by float; rounded twice, so that all processors give the same."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        total, factor, value = given
        return builder.fadd(total, builder.fmul(factor, value))

    return lanes_type(lanes_type, lanes_type, lanes_type), code


@intrinsic
def multiply(typing_context: Any, left: Any, right: Any) -> Any:
    """Product, float by float."""
    return lanes_type(lanes_type, lanes_type), _arithmetic("fmul")


@intrinsic
def maximum(typing_context: Any, left: Any, right: Any) -> Any:
    """The larger of two, float by float."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *given), *given)

    return lanes_type(lanes_type, lanes_type), code


@intrinsic
def swap_neighbours(typing_context: Any, value: Any) -> Any:
    """Four floats in the order 1, 0, 3, 2."""
    return lanes_type(lanes_type), _reordered(1, 0, 3, 2)


@intrinsic
def swap_halves(typing_context: Any, value: Any) -> Any:
    """Four floats in the order 2, 3, 0, 1."""
    return lanes_type(lanes_type), _reordered(2, 3, 0, 1)


@intrinsic
def exponential(typing_context: Any, value: Any) -> Any:
    """Exponential of four floats that are at most 0, to 2e-7 of its value; 0 below `EXP_FLOOR`."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        def scaled(left: Any, right: Any, addend: Any) -> Any:
            return builder.fadd(builder.fmul(left, right), addend)

        low = builder.fcmp_ordered("<", given[0], _constant(EXP_FLOOR))
        value = builder.select(low, _constant(EXP_FLOOR), given[0])
        # exp(x) = 2^n exp(r), n the integer nearest to x / ln 2; truncation rounds the negative x / ln 2 - 1/2 to it.
        whole = builder.fptosi(scaled(value, _constant(_LOG2_E), _constant(-0.5)), _INTS)
        n = builder.sitofp(whole, _FLOATS)
        rest = scaled(n, _constant(-_LN2_LOW), scaled(n, _constant(-_LN2_HIGH), value))
        series = _constant(_EXP_TERMS[0])
        for term in _EXP_TERMS[1:]:
            series = scaled(series, rest, _constant(term))
        bits = builder.shl(
            builder.add(whole, ir.Constant(_INTS, [_EXPONENT_BIAS] * LANES)),
            ir.Constant(_INTS, [_MANTISSA_BITS] * LANES),
        )
        return builder.select(low, _constant(0.0), builder.fmul(series, builder.bitcast(bits, _FLOATS)))

    return lanes_type(lanes_type), code
