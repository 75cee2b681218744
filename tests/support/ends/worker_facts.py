"""What a scripted worker says of itself; imported by the worker's light program, too."""

from __future__ import annotations

from shared.protocol.fingerprint import fingerprint
from shared.speculation.model_defaults import PLAIN_DEFAULTS
from verifier.cost_curve.curve import CostCurve
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.target.target import TargetModel
from verifier.workers.messages import PROOF_BYTES, Facts, Subject

SECRET = "a secret of sixteen characters and more"
CURVE = CostCurve.from_samples([(1, 64, 0.01), (64, 64, 0.02)])


def scripted_facts(target: TargetModel, name: str = "worker", weights: str = "scripted") -> Facts:
    """What a worker with this target says of itself."""
    tokenizer = ScriptedTokenizer(target.vocab_size)
    return Facts(
        proof=bytes(PROOF_BYTES),
        name=name,
        process_id=1,
        subject=Subject(
            target.model_name, weights, fingerprint(tokenizer.token_bytes), "float64", "none", True
        ),
        hardware="none",
        vocab_size=target.vocab_size,
        context_tokens=target.context_tokens,
        num_blocks=target.num_blocks,
        block_tokens=target.block_tokens,
        curve=CURVE.to_json(),
        end_ids=tuple(sorted(tokenizer.end_ids)),
        defaults=PLAIN_DEFAULTS,
    )
