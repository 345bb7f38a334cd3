"""What a pickle describes, read as data: nothing in it is called, imported or built.

`torch.save` writes its tensors' numbers beside a pickle that says which tensors they are, and a pickle is a program: it
names functions and calls them. Here its instructions are walked one by one, and only those that tensors and plain
containers need are understood. A call of torch's tensor builder becomes a `View`, the few other names that public
checkpoints hold are remembered and passed over, and any further name refuses the file.
"""

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

MAX_BYTES = 4 * 2**20  # of a pickle. Stable Diffusion's has a tenth; one byte of it can become a hundred of memory
MAX_NESTING = 8

STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
DICTIONARY = "collections.OrderedDict"
TENSOR = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
IGNORED = frozenset(
    {
        # CompVis checkpoints were saved by a trainer, with the state of its callbacks, whose losses are numpy scalars
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "_codecs.encode",  # a scalar's bytes
    }
)
KNOWN = IGNORED | STORAGES.keys() | {DICTIONARY, TENSOR, PARAMETER}

NESTS = ("string_to_param", "image_proj", "ip_adapter")  # of embeddings and adapters, which are told by them

UNNAMED = object()  # stands for every key that is not a string; what is no name is not even hashed


@dataclass(frozen=True)
class Global:
    """A function or class that the pickle names, and what calling it would have made."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Numbers that lie elsewhere in the file, under a key."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class View:
    """A tensor: numbers of a storage, from an offset on and by strides (all in elements, none negative)."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def interpret(stream: io.BytesIO) -> tuple[object, dict[str, Storage]]:
    """What the next pickle of the stream describes, and every storage it mentions.

    Dictionaries, lists, tuples, strings and numbers are themselves, tensors are `View`s.

    Raises:
        ValueError: it is damaged, says a key twice, names what is not in `KNOWN`, or uses instructions that
            `torch.save` never writes, in protocol 2, which is its own, or up to 5, which it can be asked for.
    """
    stack: list = []
    set_aside: list[list] = []  # by MARK
    memo: dict[int, object] = {}
    storages: dict[str, Storage] = {}
    try:
        for instruction, argument in _instructions(stream):
            match instruction:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack.pop(), storages
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(instruction == "NEWTRUE")
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "SHORT_BINSTRING":
                    stack.append(argument)
                case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "SHORT_BINBYTES" | "BINBYTES":
                    stack.append(argument)
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    items = [stack.pop() for _ in range(int(instruction[-1]))]
                    stack.append(tuple(reversed(items)))
                case "MARK":
                    set_aside.append(stack)
                    stack = []
                case "TUPLE":
                    items, stack = stack, set_aside.pop()
                    stack.append(tuple(items))
                case "APPEND":
                    item = stack.pop()
                    _extend(stack[-1], [item])
                case "APPENDS":
                    items, stack = stack, set_aside.pop()
                    _extend(stack[-1], items)
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    _update(stack[-1], [key, value])
                case "SETITEMS":
                    items, stack = stack, set_aside.pop()
                    _update(stack[-1], items)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(_global(argument.replace(" ", ".", 1)))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(
                        _global(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?")
                    )
                case "REDUCE" | "NEWOBJ":
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(_call(function, arguments))
                case "BUILD":  # attributes of an object: an ignored one's, or a state dictionary's version numbers
                    stack.pop()
                    if not isinstance(stack[-1], dict | Global):
                        raise ValueError("its pickle gives attributes to what has none")
                case "BINPERSID":
                    storage = _storage(stack.pop())
                    if storages.setdefault(storage.key, storage) != storage:
                        raise ValueError(f"its pickle describes storage {storage.key[:80]!r} in two ways")
                    stack.append(storage)
                case _:
                    raise ValueError(f"its pickle has an instruction {instruction} that torch.save does not write")
    except (IndexError, KeyError) as e:  # the stack, the marks or the memo lack what an instruction takes
        raise ValueError("its pickle is damaged: an instruction has nothing to work on") from e
    raise AssertionError("pickletools ends at STOP, or fails")


def tensors_in(checkpoint: object) -> dict[str, View]:
    """The tensors of what a checkpoint's pickle describes.

    The rule: as long as a dictionary has another under "state_dict", that one counts; of the last one the tensors
    count, or, where it has none, those one step inside, as embeddings and adapters have them. Everything else, such as
    epochs, callbacks and the state of an optimizer, is ignored.

    Raises:
        ValueError: it is not a dictionary, has keys that are not strings, or no tensors.
    """
    for _ in range(MAX_NESTING):  # a dictionary may contain itself
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
            checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, dict):
        raise ValueError("it does not hold a dictionary of tensors")
    if UNNAMED in checkpoint and "layer_structure" in checkpoint:
        raise ValueError("it is a hypernetwork, which changes a model and is none: give the model itself, without it")
    if UNNAMED in checkpoint:
        raise ValueError("a key of its dictionary of tensors is not a string")
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, View)}
    if not tensors:
        inner = {name: checkpoint[name] for name in NESTS if isinstance(checkpoint.get(name), dict)}
        pairs = [(f"{a}.{b}", t) for a, nest in inner.items() for b, t in nest.items() if b is not UNNAMED]
        tensors = {name: tensor for name, tensor in pairs if isinstance(tensor, View)}
    if not tensors:
        keys = ", ".join(repr(key[:80]) for key in list(checkpoint)[:5])
        raise ValueError(f'it holds no tensors, neither on top nor under "state_dict"; its keys begin with: {keys}')
    return tensors


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, object]]:
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode.name, argument
    except Exception as e:  # of another's parser, on any bytes: codecs, numbers and warnings fail in their own ways
        raise ValueError(f"its pickle is damaged, cut short, or longer than {MAX_BYTES} bytes") from e


def _global(name: str) -> Global:
    if name not in KNOWN:
        raise ValueError(
            f"its pickle asks for {name[:80]!r}. Only tensors and plain containers are read from a pickle, because "
            "anything else may run code: get the weights as .safetensors"
        )
    return Global(name)


def _call(function: object, arguments: object) -> object:
    match function, arguments:
        case Global(name), _ if name in IGNORED:
            return function
        case Global(name), () if name == DICTIONARY:
            return {}
        case Global(name), (View() as view, *_) if name == PARAMETER:
            return view
        case Global(name), (Storage() as storage, int(offset), tuple(shape), tuple(stride), _, _) if name == TENSOR:
            if len(shape) == len(stride) and all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *stride)):
                return View(storage, offset, shape, stride)
    raise ValueError("its pickle calls a function in a way that torch.save does not")


def _storage(identifier: object) -> Storage:
    match identifier:
        # the older format has a sixth entry, for views of storages; no torch since 1.0 fills it
        case ("storage", Global(name), str(key), str(_), int(numel), *rest) if rest in ([], [None]):
            if name in STORAGES and numel >= 0:
                return Storage(key, STORAGES[name], numel)
    raise ValueError("its pickle points to a storage in a way that torch.save does not")


def _extend(target: object, items: list) -> None:
    if not isinstance(target, list):
        raise ValueError("its pickle appends to what is not a list")
    target.extend(items)


def _update(target: object, items: list) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("its pickle sets an entry of what is not a dictionary")
    for key, value in zip(items[::2], items[1::2]):
        if not isinstance(key, str):
            key = UNNAMED
        elif key in target:
            raise ValueError(f"its pickle says {key[:80]!r} twice")
        target[key] = value
