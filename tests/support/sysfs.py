"""Fake file systems of boards: what their kernels tell, as files in a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write the files, by their paths below the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def thermal_zone(number: int, kind: str, temperature: str) -> dict[str, str]:
    """A zone of the kernel's; the temperature in thousandths of a degree."""
    zone = f"sys/class/thermal/thermal_zone{number}"
    return {f"{zone}/type": f"{kind}\n", f"{zone}/temp": f"{temperature}\n"}


def sensor(number: int, name: str, **values: int) -> dict[str, str]:
    """A sensor of hwmon."""
    place = f"sys/class/hwmon/hwmon{number}"
    return {f"{place}/name": f"{name}\n"} | {
        f"{place}/{key}": f"{value}\n" for key, value in values.items()
    }


PI_5_CPUINFO = "".join(
    f"processor\t: {core}\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
    "lrcpc dcpop asimddp\n\n"
    for core in range(4)
)
PI_4_CPUINFO = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"


def pi_5(throttled: str = "0", celsius: float = 55.0) -> dict[str, str]:
    """A Raspberry Pi 5."""
    return {
        "proc/cpuinfo": PI_5_CPUINFO,
        PI_THROTTLED: f"{throttled}\n",
        f"{CPUFREQ}/scaling_governor": "ondemand\n",
        f"{CPUFREQ}/scaling_driver": "cpufreq-dt\n",
        f"{CPUFREQ}/scaling_max_freq": "2400000\n",
        f"{CPUFREQ}/cpuinfo_max_freq": "2400000\n",
        **thermal_zone(0, "cpu-thermal", f"{celsius * 1000:.0f}"),
        **sensor(1, "rpi_volt", in0_lcrit_alarm=0),
    }


def pi_4(alarm: int = 0, celsius: float = 61.0) -> dict[str, str]:
    """A Raspberry Pi 4 with a kernel of Debian's: no file of the firmware, but the sensor."""
    return {
        "proc/cpuinfo": PI_4_CPUINFO,
        "proc/meminfo": "MemTotal: 1900000 kB\nMemAvailable: 1000000 kB\n",
        **thermal_zone(0, "cpu-thermal", f"{celsius * 1000:.0f}"),
        **sensor(0, "rpi_volt", in0_lcrit_alarm=alarm),
    }


def x86(throttle_count: int = 0) -> dict[str, str]:
    """A PC with Intel's counters of heat."""
    place = "sys/devices/system/cpu/cpu0/thermal_throttle"
    return {
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n",
        f"{place}/core_throttle_count": f"{throttle_count}\n",
        f"{place}/package_throttle_count": "0\n",
        **thermal_zone(0, "acpitz", "27800"),
        **thermal_zone(1, "x86_pkg_temp", "44000"),
    }


def jetson_orin(events: int = 0) -> dict[str, str]:
    """A Jetson Orin: many zones, of which one is off, and counters of over-current."""
    return {
        **thermal_zone(0, "cpu-thermal", "48500"),
        **thermal_zone(1, "gpu-thermal", "47000"),
        **thermal_zone(2, "cv0-thermal", "-256000"),
        **thermal_zone(8, "tj-thermal", "49125"),
        **thermal_zone(9, "battery", "90000"),
        **sensor(0, "ina3221", in1_input=5000, curr1_input=900),
        **sensor(2, "soctherm_oc", oc1_event_cnt=events, oc3_event_cnt=2 * events),
    }
