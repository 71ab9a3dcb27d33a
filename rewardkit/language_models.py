"""Tokenizes completions, divides them into steps, and computes log-probabilities under causal language models, without training.

`rewardkit train` and the rewards of the plugin ``reward_model`` both use this, so that a completion is scored on exactly the tokens that a
policy is trained on. Importing it loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewardkit.reward_models import (
    DialogueError,
    as_messages,
    chat_text,
    chat_tokens,
    encodable,
    padded_batch,
    single_bos,
)
from rewardkit.types import Message, Rollout

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CompletionTokens", "completion_logprobs", "completion_tokens", "step_ends", "step_numbers"]

TILE_LOGITS = 1 << 22
"""The most logits that exist at once: 16 MB in float32."""
REPLACEMENT = "\ufffd"
"""What an incomplete UTF-8 character is decoded to."""
CHARACTER_TOKENS = 4
"""The largest number of tokens that one UTF-8 character can be divided into."""
WINDOW = 16
"""The number of tokens that are decoded together to find out the text of the last one."""


@dataclass(frozen=True, slots=True)
class CompletionTokens:
    """The tokens of a prompt with its completion."""

    tokens: tuple[int, ...]
    turns: tuple[tuple[int, int], ...]
    """The tokens that the policy wrote: (first, token after the last) of each of its turns."""

    @property
    def places(self) -> list[int]:
        """The places of the tokens that the policy wrote."""
        return [place for first, end in self.turns for place in range(first, end)]


def completion_tokens(
    tokenizer: Any,
    rollout: Rollout,
    *,
    as_chat: bool = False,
    ended: bool = True,
    end_ids: Collection[int | None] | None = None,
) -> CompletionTokens:
    """Tokenize a completion as the stages ``sft`` and ``grpo`` of `rewardkit train` do.

    Text continues the text of its prompt, and ends with the end-of-sequence token. Messages are rendered by the chat template, and each
    of the assistant's turns ends with its end-of-sequence token.

    Args:
        tokenizer: A tokenizer of transformers.
        rollout: The prompt and the completion.
        as_chat: Take a text prompt as the message of a user (``data.as_chat`` in training).
        ended: False leaves the end-of-sequence token of the last turn out, as of a truncated completion.
        end_ids: The tokens that end a turn of messages; by default the tokenizer's end-of-sequence token.

    Raises:
        DialogueError: The completion has no token, the prompt has none, their forms differ, or the chat template refuses the messages.
    """
    if isinstance(rollout.prompt, str) and not as_chat:
        if not isinstance(rollout.completion, str):
            raise DialogueError(
                "the prompt is text and the completion messages; use the same form for both, or as_chat"
            )
        before = text_prompt_tokens(tokenizer, encodable(rollout.prompt))
        own = tuple(tokenizer(encodable(rollout.completion), add_special_tokens=False)["input_ids"])
        own = with_end(tokenizer, own) if ended else own
        if not before:
            raise DialogueError("the prompt is empty, so the first token of the completion has no probability")
        if not own:
            raise DialogueError("there is no completion: it is empty, and no end-of-sequence token follows it")
        return CompletionTokens((*before, *own), ((len(before), len(before) + len(own)),))
    if not tokenizer.chat_template:
        raise DialogueError("the prompt holds chat messages, but the tokenizer has no chat template")
    prompt = as_messages(rollout.prompt, "user")
    messages = [*prompt, *as_messages(rollout.completion, "assistant")]
    turns = [index for index in range(len(prompt), len(messages)) if messages[index].get("role") == "assistant"]
    if not turns:
        raise DialogueError("there is no completion: it has no message of the assistant")
    ends = {tokenizer.eos_token_id} if end_ids is None else end_ids
    spoken = [chat_turn(tokenizer, messages, turn, ends) for turn in turns]
    whole = spoken[-1].after
    if not all(whole[: len(turn.after)] == turn.after for turn in spoken):
        raise DialogueError("the chat template renders earlier turns differently once later ones follow")
    found = [(len(turn.before), turn.end) for turn in spoken]
    if not ended and found[-1][1] > found[-1][0] and whole[found[-1][1] - 1] in ends:
        found[-1] = (found[-1][0], found[-1][1] - 1)
    if all(first == end for first, end in found):
        raise DialogueError("there is no completion: the assistant's messages have no token")
    return CompletionTokens(whole[: found[-1][1]], tuple(found))


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """An assistant's turn as the chat template renders it."""

    before: tuple[int, ...]
    """The tokens before the turn, up to where the policy begins to write."""
    after: tuple[int, ...]
    """The tokens of the conversation with the turn."""
    end: int
    """The number of tokens up to the one that ends the turn."""


def chat_turn(
    tokenizer: Any, messages: Sequence[Message], turn: int, end_ids: Collection[int | None] | None = None
) -> ChatTurn:
    """Render an assistant's turn of a conversation.

    A tokenizer may merge the end of the prompt with the beginning of the turn, such as two line breaks. The model is sampled from behind
    the tokens of the prompt, so the turn is then tokenized by itself.

    Args:
        tokenizer: A tokenizer of transformers with a chat template.
        messages: The conversation.
        turn: The index of the assistant's message.
        end_ids: The tokens that end a completion; by default the tokenizer's end-of-sequence token.

    Raises:
        DialogueError: The template refuses the messages, or renders the prompt differently once there is a response.
    """
    before = tuple(single_bos(tokenizer, chat_tokens(tokenizer, messages[:turn], generation_prompt=True)))
    after = tuple(single_bos(tokenizer, chat_tokens(tokenizer, messages[: turn + 1])))
    if after[: len(before)] != before:
        prompt = chat_text(tokenizer, messages[:turn], generation_prompt=True)
        whole = chat_text(tokenizer, messages[: turn + 1])
        if not whole.startswith(prompt):
            raise DialogueError(
                f"the chat template renders the prompt of turn {turn + 1} differently once there is a response, so training and sampling "
                "would see different prompts; correct the chat template (model.chat_template)"
            )
        after = (*before, *tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"])
    ends = {tokenizer.eos_token_id} if end_ids is None else end_ids
    end = max((at + 1 for at, token in enumerate(after) if token in ends), default=len(after))
    return ChatTurn(before, after, end if end > len(before) else len(after))


def text_prompt_tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the tokens of a text prompt.

    Some tokenizers end every text with the end-of-sequence token. It is removed, because the completion continues the text.

    Args:
        tokenizer: A tokenizer of transformers.
        text: The prompt.
    """
    tokens = tuple(tokenizer(text)["input_ids"])
    if ends := ends_with(tokens, tokenizer.eos_token_id):
        own = ends_with(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)
        tokens = tokens[: len(tokens) - max(ends - own, 0)]
    return tuple(single_bos(tokenizer, tokens))


def with_end(tokenizer: Any, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Add an end-of-sequence token, unless there is one already or the tokenizer has none.

    Args:
        tokenizer: A tokenizer of transformers.
        tokens: The tokens of a completion.
    """
    eos = tokenizer.eos_token_id
    return (*tokens, eos) if isinstance(eos, int) and not ends_with(tokens, eos) else tokens


def ends_with(tokens: Sequence[int], token: int | None) -> int:
    """Return how many times tokens end with a token.

    Args:
        tokens: Token ids.
        token: The id of a token; None never occurs.
    """
    count = 0
    while count < len(tokens) and tokens[-1 - count] == token:
        count += 1
    return count


def token_places(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[tuple[int, int]]:
    """Return the place of each token's text in the text of all tokens, as (first character, character after the last).

    A token that holds a part of a UTF-8 character has the place of the whole character, and a token without text an empty place. The
    time is linear in the number of tokens, because each is decoded with a few neighbours only, whose number has a limit.

    Args:
        tokens: The token ids.
        decode: Returns the text of tokens.
    """
    places: list[tuple[int, int]] = []
    start = read = position = complete = 0
    known = ""  # the text of tokens[start:read], which ends at ``position``
    for index in range(len(tokens)):
        text = decode(tokens[start : index + 1])
        is_last = index + 1 == len(tokens) or index - read >= CHARACTER_TOKENS - 1
        if text.endswith(REPLACEMENT) and not is_last:
            now = max(len(text.rstrip(REPLACEMENT)) - len(known), complete)
            places.append((position + complete, position + now + 1))
            complete = now
            continue
        new = max(len(text) - len(known), complete)
        places.append((position + complete, position + new))
        position, complete, read, known = position + new, 0, index + 1, text
        if read - start >= WINDOW:
            start = read - CHARACTER_TOKENS
            known = decode(tokens[start:read])
    return places


def token_texts(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """Return the text of each token, which joined give the text of all, unlike the texts of tokens that are decoded alone.

    A character that several tokens hold parts of is the text of the last of them.

    Args:
        tokens: The token ids.
        decode: Returns the text of tokens.
    """
    places, text = token_places(tokens, decode), decode(tokens)
    found: list[str] = []
    begin = 0
    for index, (_, end) in enumerate(places):
        stop = max(min(end, places[index + 1][0]), begin) if index + 1 < len(places) else len(text)
        found.append(text[begin:stop])
        begin = stop
    return found


def steps_of_tokens(tokens: Sequence[str], separator: str = "\n\n") -> list[int]:
    """Return the step of a completion that each of its tokens belongs to. Steps end with ``separator``.

    A token belongs to the step that its first character stands in; the separator to the step that it ends. A separator may
    be cut by tokens anyhow. Repeated separators, and one at the very end, make no empty steps.

    Args:
        tokens: The text of each token, which joined give the completion.
        separator: What ends a step.

    Returns:
        A step number per token, from 0 without gaps.
    """
    if not separator:
        raise ValueError("the separator of steps must not be empty")
    text = "".join(tokens)
    ends: list[int] = []  # where each step ends, separators included
    position = 0
    while (found := text.find(separator, position)) >= 0:
        end = found + len(separator)
        if text[position:found].strip():
            ends.append(end)
        elif ends:
            ends[-1] = end  # nothing between two separators: it belongs to the step before
        position = end
    if ends and not text[position:].strip():
        ends[-1] = len(text)
    steps: list[int] = []
    start = step = 0
    for token in tokens:
        while step < len(ends) and start >= ends[step] and start < len(text):
            step += 1
        steps.append(step)
        start += len(token)
    return steps


def step_numbers(tokenizer: Any, row: CompletionTokens, separator: str) -> list[int]:
    """Return the step of each token that the policy wrote, as GRPO divides the same text.

    Args:
        tokenizer: A tokenizer of transformers.
        row: The completion. Its end-of-sequence token belongs to the last step.
        separator: What ends a step.
    """
    silent = {tokenizer.eos_token_id, tokenizer.pad_token_id}

    def decode(tokens: Sequence[int]) -> str:
        said = [token for token in tokens if token not in silent]
        return str(tokenizer.decode(said, clean_up_tokenization_spaces=False))

    return steps_of_tokens(token_texts([row.tokens[place] for place in row.places], decode), separator)


def step_ends(tokenizer: Any, row: CompletionTokens, separator: str) -> list[int]:
    """Return the place of each step's last token, where a process reward model gives the step's score.

    Args:
        tokenizer: A tokenizer of transformers.
        row: The completion, without an end-of-sequence token.
        separator: What ends a step.
    """
    found: dict[int, int] = dict(zip(step_numbers(tokenizer, row, separator), row.places, strict=True))
    return list(found.values())


def completion_logprobs(model: Any, rows: Sequence[CompletionTokens], padding: int) -> list[list[float]]:
    """Return the log-probability of each token that the policy wrote, without gradient.

    Logits are computed for a tile of tokens at a time, so that those of a whole batch never exist (``TILE_LOGITS``).

    Args:
        model: A causal language model of transformers.
        rows: The completions, which go through the model together.
        padding: The id of the token to pad with. Causal attention never sees it, because it stands on the right.
    """
    import torch

    lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids, mask = padded_batch([row.tokens for row in rows], padding)
    device = lm.get_input_embeddings().weight.device
    with torch.inference_mode():
        backbone = getattr(lm, lm.base_model_prefix)
        out = backbone(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        hidden = torch.cat(
            [out.last_hidden_state[index, [place - 1 for place in row.places]] for index, row in enumerate(rows)]
        )
        targets = torch.tensor([row.tokens[place] for row in rows for place in row.places], device=device)
        size = max(TILE_LOGITS // lm.get_input_embeddings().weight.shape[0], 1)
        found: list[float] = []
        for some, some_targets in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
            logprobs = own_logits(lm, some).float().log_softmax(-1)
            found += logprobs.gather(-1, some_targets[:, None]).squeeze(-1).tolist()
    values = iter(found)
    return [[next(values) for _ in row.places] for row in rows]


def own_logits(lm: Any, hidden: Tensor) -> Tensor:
    """Return the logits that a model's own forward makes of given hidden states. Shape: (N, V).

    Args:
        lm: A causal language model of transformers.
        hidden: The last hidden states.
    """
    import torch

    ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _fixed_output(getattr(lm, lm.base_model_prefix), hidden[None]):
        return lm(input_ids=ids, use_cache=False).logits[0]  # type: ignore[no-any-return]


@contextmanager
def _fixed_output(module: Any, hidden: Tensor) -> Iterator[None]:
    """Make a backbone return given hidden states, instead of computing any."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Output(BaseModelOutputWithPast):
        """Hidden states alone. Whatever else a model's forward passes on (router logits, images, attentions) is None."""

        def __getattr__(self, name: str) -> None:
            if name.startswith("__"):
                raise AttributeError(name)

    original = module.forward
    module.forward = lambda *_args, **_kwargs: Output(last_hidden_state=hidden)
    try:
        yield
    finally:
        module.forward = original
