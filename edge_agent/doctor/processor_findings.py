"""Whether llama.cpp was built for this processor, and how fast that may run. Pure."""

from __future__ import annotations

from edge_agent.board.processor import Processor
from edge_agent.draft_model.llama_build import FLAGS_WITHOUT_TILES, TILES, LlamaBuild
from shared.doctor.findings import Finding, ok, problem, warning

# llama.cpp's name of what its products use, and those of /proc/cpuinfo that must all be there.
_USED = {
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "FMA": ("fma",),
    "F16C": ("f16c",),
    "BMI2": ("bmi2",),
    "AVX_VNNI": ("avx_vnni",),
    "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_INT8": ("amx_int8",),
    "NEON": ("asimd",),
    "DOTPROD": ("asimddp",),
    "FP16_VA": ("fphp", "asimdhp"),
    "MATMUL_INT8": ("i8mm",),
    "SVE": ("sve",),
}
# What makes drafting clearly slower where it is left out; the others matter to long prompts.
_DECISIVE = ("AVX2", "FMA", "F16C", "DOTPROD", "FP16_VA")
# Their powersave is no fixed low frequency: the processor itself chooses.
_DRIVERS_WITH_OWN_CHOICE = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")
_BUILD_HERE = (
    "pip install --no-cache-dir --force-reinstall --no-binary llama-cpp-python llama-cpp-python=="
)


def lacks_what_build_needs(processor: Processor, build: LlamaBuild) -> tuple[str, ...]:
    """Features that llama.cpp was built with and the processor does not have: it would crash."""
    if not processor.features:
        return ()
    return tuple(
        name
        for name, flags in _USED.items()
        if name in build.features and not processor.features.issuperset(flags)
    )


def build_finding(processor: Processor, build: LlamaBuild, gpu_layers: int) -> Finding:
    """The build against the processor, and against draft.gpu_layers."""
    rebuild = f"{_BUILD_HERE}{build.version}"
    lacking = lacks_what_build_needs(processor, build)
    if lacking:
        sentence = (
            f"llama.cpp was built for a processor with {', '.join(lacking)}, which this one lacks: "
            "it would end the program"
        )
        return problem("llama.cpp", sentence, rebuild)
    if gpu_layers and not build.has_gpu:
        sentence = (
            f"draft.gpu_layers = {gpu_layers}, but llama.cpp was built without a GPU: it drafts "
            "on the processor"
        )
        return warning("llama.cpp", sentence, f"CMAKE_ARGS=-DGGML_CUDA=on {rebuild}")
    if TILES in build.features and not gpu_layers:
        sentence = (
            f"llama.cpp {build.version} was built with Intel's matrix tiles (AMX), which end the "
            "program on some machines: their layout of weights is not used, so that a 4-bit draft "
            "is a fifth slower than it could be"
        )
        return warning("llama.cpp", sentence, f'CMAKE_ARGS="{FLAGS_WITHOUT_TILES}" {rebuild}')
    unused = [
        name
        for name in _DECISIVE
        if name not in build.features and processor.features.issuperset(_USED[name])
    ]
    if unused and not gpu_layers:
        sentence = (
            f"llama.cpp {build.version} was built without {', '.join(unused)}, which this "
            "processor has: it drafts slower than it could"
        )
        return warning("llama.cpp", sentence, rebuild)
    if not processor.features:
        told = "the kernel does not tell what the processor can do"
        return ok("llama.cpp", f"llama.cpp {build.version}; {told}")
    return ok("llama.cpp", f"llama.cpp {build.version} uses what this processor has")


def frequency_finding(processor: Processor) -> Finding:
    """Governor and limits of the frequency."""
    subject = "processor"
    cores = f"{processor.num_cores} core{'s' * (processor.num_cores != 1)}"
    if processor.governor == "powersave" and processor.driver not in _DRIVERS_WITH_OWN_CHOICE:
        return warning(
            subject,
            f"{cores} held at the lowest frequency by the governor powersave",
            "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    allowed, built_for = processor.allowed_mhz, processor.built_for_mhz
    if allowed is not None and built_for is not None and allowed < built_for:
        return warning(
            subject,
            f"{cores} limited to {allowed:.0f} of {built_for:.0f} MHz",
            f"echo {built_for * 1000:.0f} | "
            "sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
        )
    frequency = "" if allowed is None else f", up to {allowed:.0f} MHz"
    governor = "" if processor.governor is None else f", governor {processor.governor}"
    return ok(subject, f"{cores}{frequency}{governor}")
