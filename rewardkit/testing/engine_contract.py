"""The contract of a rollout engine: a test class with one test for each requirement. It needs torch.

The tests use a small model with random weights that they create.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from rewardkit.registry import Registry
from rewardkit.rollout_engine import Completion, Request, RolloutEngine, RolloutEngineType, Sampling
from rewardkit.testing.contract import ContractBrokenError

if TYPE_CHECKING:
    from rewardkit.train.models.policy import Policy

ALPHABET = "0123456789+-*/=?.,:;()[]{}<>\\ \n_'\"abcdefghijklmnopqrstuvwxyz"
LONGEST = 160


class RolloutEngineContract:
    """The tests of a rollout engine. Inherit it as ``class TestMine(RolloutEngineContract)``, set the attributes, and run pytest.

    The engine is started once for all tests of a class.
    """

    engine: ClassVar[str | RolloutEngineType]
    """The engine: the name of an installed engine (which also tests the entry point), or a ``RolloutEngineType``."""
    params: ClassVar[Mapping[str, Any]] = {}
    """The parameters, as under ``with`` in a training configuration."""

    _scope: ClassVar[contextlib.ExitStack]
    _policy: ClassVar[Policy]
    _running: ClassVar[RolloutEngine]

    @classmethod
    def setup_class(cls) -> None:
        """Start the engine."""
        from rewardkit.config.params import make_params
        from rewardkit.train.config import ModelConfig
        from rewardkit.train.config.engines import with_builtin
        from rewardkit.train.models.policy import Policy
        from rewardkit.train.rollout.synced_engine import setup_of

        with contextlib.ExitStack() as scope:
            folder = scope.enter_context(tempfile.TemporaryDirectory(prefix="rewardkit-contract-"))
            write_model(Path(folder))
            model = ModelConfig(path=folder)
            cls._policy = Policy.load(model)
            kind = inspect.getattr_static(cls, "engine")
            if isinstance(kind, str):
                kind = with_builtin(Registry.load()).engine(kind).type
            setup = setup_of(model, cls._policy, Sampling(24), longest=LONGEST, batch=64)
            cls._running = kind.build(make_params(kind, dict(cls.params)), setup)
            scope.callback(cls._running.close)
            cls._running.sync()
            cls._scope = scope.pop_all()

    @classmethod
    def teardown_class(cls) -> None:
        """Close the engine. Closing it again must do nothing."""
        cls._running.close()
        cls._scope.close()
        del cls._running, cls._policy
        gc.collect()

    # --- requirements ---------------------------------------------------------------------------------------------------

    def test_every_request_is_answered_once(self) -> None:
        """Each request is answered once with one completion per seed. An empty list of requests gives no answers."""
        asked = [*self._requests(), Request(self._tokens("7"), [5])]
        seen = [index for part in self._running.generate(asked, Sampling(8)) for index, _ in part]
        if sorted(seen) != list(range(len(asked))):
            self._broken(
                "every request is answered once", f"requests 0 to {len(asked) - 1} were answered as {sorted(seen)}"
            )
        for request, completions in zip(asked, self._ask(asked, Sampling(8)), strict=True):
            if len(completions) != len(request.seeds):
                self._broken(
                    "every request is answered once", f"{len(request.seeds)} seeds gave {len(completions)} completions"
                )
        if list(self._running.generate([], Sampling(8))):
            self._broken("every request is answered once", "an empty list of requests was answered")

    def test_completions_are_well_formed(self) -> None:
        """Tokens are in the vocabulary, each has a finite log-probability, and a completion is no longer than allowed."""
        import math

        size = self._policy.lm.config.vocab_size
        for completion in self._flat(Sampling(8)):
            if not 0 < len(completion.tokens) <= 8:
                self._broken(
                    "completions are well formed", f"{len(completion.tokens)} tokens, although 1 to 8 were requested"
                )
            if (what := completion.problem()) is not None:
                self._broken("completions are well formed", what)
            if not all(0 <= token < size for token in completion.tokens):
                self._broken(
                    "completions are well formed", f"tokens that are not in the vocabulary: {completion.tokens}"
                )
            if not all(math.isfinite(value) and value <= 1e-6 for value in completion.logprobs):
                self._broken("completions are well formed", f"log-probs {completion.logprobs}")

    def test_the_finish_reason_is_honest(self) -> None:
        """``stop`` if the last token, and no earlier one, ends completions; ``length`` if the token limit was reached."""
        found = self._flat(Sampling(24), size=24)
        for completion in found:
            ends = [token in self._policy.eos_ids for token in completion.tokens]
            if any(ends[:-1]):
                self._broken("the finish reason is honest", f"it continued after the end: {completion.tokens}")
            if ends[-1] != (completion.finish_reason == "stop"):
                self._broken("the finish reason is honest", f"{completion.finish_reason!r} for {completion.tokens}")
            if completion.finish_reason == "length" and len(completion.tokens) != 24:
                self._broken("the finish reason is honest", f"'length' after {len(completion.tokens)} of 24 tokens")
        if {completion.finish_reason for completion in found} != {"stop", "length"}:
            self._broken(
                "the finish reason is honest", "all 72 completions of a random model have the same finish reason"
            )

    def test_logprobs_are_the_policys(self) -> None:
        """The log-probability of each token equals the policy's at the sampling temperature."""
        for sampling in (Sampling(24), Sampling(24, temperature=0.7), Sampling(24, temperature=0)):
            self._require_agreement("log-probs are the policy's", sampling)

    def test_greedy_takes_the_likeliest_token(self) -> None:
        """At temperature 0, each token is the most probable one."""
        import torch

        from rewardkit.train.models.policy import TokenSpan

        asked = [Request(request.prompt, [0]) for request in self._requests()]
        for request, completions in zip(asked, self._ask(asked, Sampling(12, temperature=0)), strict=True):
            tokens = completions[0].tokens
            with torch.no_grad():
                states = self._policy.states([TokenSpan((*request.prompt, *tokens), len(request.prompt))])
                logits = self._policy.next_logits(states).float()
            best, taken = logits.max(-1).values, logits.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
            if float((best - taken).max()) > max(1e-3, self._running.tolerance):
                self._broken(
                    "greedy takes the likeliest token",
                    f"a logit is {float((best - taken).max()):.3g} below the highest",
                )

    def test_a_seed_gives_the_same_tokens_again(self) -> None:
        """A prompt and a seed give the same tokens in each call, and different seeds give different tokens."""
        first, again = self._flat(Sampling(16)), self._flat(Sampling(16))
        if [item.tokens for item in first] != [item.tokens for item in again]:
            self._broken("a seed gives the same tokens again", "the same requests gave other tokens")
        if len({item.tokens for item in first}) < len(first) - 1:
            self._broken("a seed gives the same tokens again", "different seeds gave equal completions")

    def test_tokens_do_not_depend_on_the_batch(self) -> None:
        """A completion has the same tokens alone and in a batch."""
        together = self._ask(self._requests(), Sampling(16))
        for request, whole in zip(self._requests(), together, strict=True):
            for seed, completion in zip(request.seeds, whole, strict=True):
                alone = self._ask([Request(request.prompt, [seed])], Sampling(16))[0][0]
                if alone.tokens != completion.tokens:
                    self._broken(
                        "tokens do not depend on the batch", f"{completion.tokens} in a batch, {alone.tokens} alone"
                    )

    def test_stop_texts_end_a_completion_and_stay_in_it(self) -> None:
        """A completion ends after the first stop string, which it includes."""
        found = self._flat(Sampling(24, stop=("7", "ab")), size=24)
        stopped = 0
        for completion in found:
            text = self._policy.decode(completion.tokens)
            if "7" in text[:-1] or "ab" in text[:-1]:
                self._broken("stop texts end a completion", f"it continued after a stop string: {text!r}")
            if text.endswith(("7", "ab")):
                stopped += 1
                if completion.finish_reason != "stop":
                    self._broken("stop texts end a completion", f"{completion.finish_reason!r} for {text!r}")
        if not stopped:
            self._broken(
                "stop texts end a completion", "none of 72 completions contains a stop string: are the strings cut off?"
            )

    def test_sync_takes_over_all_weights(self) -> None:
        """After a change of the weights and ``sync``, log-probabilities equal the policy's, also for prompts in a prefix cache."""
        import torch

        clause = "sync takes over all weights"
        long = Request(self._tokens("1+2=3,4+5=9;" * 8), [1, 2])
        self._ask([long], Sampling(8))  # This puts the prompt into a prefix cache.
        before = {name: value.detach().clone() for name, value in self._policy.lm.named_parameters()}
        generator = torch.Generator().manual_seed(0)
        try:
            with torch.no_grad():
                for value in self._policy.lm.parameters():
                    value.add_(0.05 * torch.randn(value.shape, generator=generator).to(value))
            self._running.sync()
            self._require_agreement(clause, Sampling(24), [*self._requests(), long])
        finally:
            with torch.no_grad():
                for name, value in self._policy.lm.named_parameters():
                    value.copy_(before[name])
            self._running.sync()
        self._require_agreement(clause, Sampling(24), [*self._requests(), long])

    def test_nobody_has_to_take_everything(self) -> None:
        """The engine works after a ``generate`` whose results were not all consumed."""
        whole = self._flat(Sampling(16))
        values = iter(self._running.generate(self._requests(), Sampling(16)))
        next(values)
        if (close := getattr(values, "close", None)) is not None:
            close()
        if [item.tokens for item in self._flat(Sampling(16))] != [item.tokens for item in whole]:
            self._broken(
                "nobody has to take everything", "other tokens were sampled after an iterator was closed early"
            )

    def test_it_works_after_sleeping(self) -> None:
        """After ``sleep``, ``wake`` and ``sync``, the engine samples the same tokens as before."""
        whole = self._flat(Sampling(16))
        self._running.sleep()
        self._running.wake()
        self._running.sync()
        if [item.tokens for item in self._flat(Sampling(16))] != [item.tokens for item in whole]:
            self._broken("it works after sleeping", "other tokens were sampled than before")

    # --- implementation ------------------------------------------------------------------------------------------------

    def _broken(self, clause: str, what: str) -> NoReturn:
        kind = inspect.getattr_static(self, "engine")
        name = kind if isinstance(kind, str) else kind.name
        raise ContractBrokenError(f"rollout engine {name!r} breaks the contract, {clause!r}: {what}")

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._policy.tokenizer(text)["input_ids"])

    def _requests(self, size: int = 3) -> list[Request]:
        """Return requests with prompts of different lengths, several completions each, and seeds of 63 bits."""
        texts = ["1+2=?", "what is 47+85? " * 3, "9"]
        return [
            Request(self._tokens(text), [(1 << 62) + 1000 * index + place for place in range(size)])
            for index, text in enumerate(texts)
        ]

    def _ask(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        found = dict(item for part in self._running.generate(requests, sampling) for item in part)
        return [found[index] for index in range(len(requests))]

    def _flat(self, sampling: Sampling, size: int = 3) -> list[Completion]:
        return [item for group in self._ask(self._requests(size), sampling) for item in group]

    def _require_agreement(self, clause: str, sampling: Sampling, asked: Sequence[Request] | None = None) -> None:
        worst = max(self._differences(asked or self._requests(), sampling))
        if not worst <= self._running.tolerance:
            self._broken(
                clause,
                f"at temperature {sampling.temperature:g}, log-probabilities differ from the policy's by {worst:.3g} per token on "
                f"average; the engine's tolerance is {self._running.tolerance:g}",
            )

    def _differences(self, asked: Sequence[Request], sampling: Sampling) -> Iterator[float]:
        import torch

        from rewardkit.train.models.policy import TokenSpan

        for request, completions in zip(asked, self._ask(asked, sampling), strict=True):
            for completion in completions:
                passage = TokenSpan((*request.prompt, *completion.tokens), len(request.prompt))
                with torch.no_grad():
                    judged = self._policy.forward_logprobs([passage], sampling.temperature or 1.0)
                yield float((judged.logprobs_B_T[0].cpu() - torch.tensor(completion.logprobs)).abs().mean())


def write_model(folder: Path) -> None:
    """Write a Qwen2 model with random weights and tied embeddings, and a character-level tokenizer.

    Args:
        folder: An existing folder, from which transformers can load both.
    """
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    special = ["<|pad|>", "<|end|>"]
    vocabulary = {token: index for index, token in enumerate([*special, *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))  # noqa: S106 - a space
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=special[0], eos_token=special[1]
    )
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(vocabulary),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,  # heads of 32: vLLM's kernels for CPUs know no smaller ones
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            initializer_range=0.08,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    torch.set_rng_state(state)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
