"""docs/install.md on a clean machine: its own commands, from nothing to a chat, and away again.

The machine is a mount namespace with empty layers above /etc, /opt, /usr/local and /var/lib, and a
network of its own; what systemd would start is started as the units say.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models.real_models import real_model
from tests.support.programs.command import ROOT, environment
from tests.support.programs.wheelhouse import build_wheel, dependencies_in

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
SERVER, BOARD = (block.splitlines() for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL))
CLEAN_MACHINE = r"""
set -eu
mount --make-rprivate /
ip link set lo up
for place in etc opt usr/local var/lib; do
    layer=$LAYERS/$(echo $place | tr / _)
    mkdir -p "$layer/above" "$layer/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$layer/above,workdir=$layer/work" /$place
done
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /var/lib/goodspeed/models
cp "$MODEL_FILE" /var/lib/goodspeed/models/
find /etc /opt /usr/local /var/lib -type f -o -type l | sort >"$LAYERS/before"

# What `systemctl enable --now NAME` does.
start() {
    unit=/etc/systemd/system/$1.service
    mkdir -p "$LAYERS/$1"
    for credential in $(sed -n 's/^LoadCredential=\(.*\):.*/\1/p' "$unit"); do
        install -m 400 "/etc/goodspeed/credentials/$credential" "$LAYERS/$1/$credential"
    done
    # shellcheck disable=SC2046 # words are meant
    env $(sed -n 's/^Environment=//p' "$unit") CREDENTIALS_DIRECTORY="$LAYERS/$1" \
        $(sed -n 's/^ExecStart=//p' "$unit") 2>"$LAYERS/$1.log" &
    eval "running=\"\${running:-} $!\""
}

ends() {
    status=$?
    kill ${running:-} 2>/dev/null || true
    wait
    tail -n 5 "$LAYERS"/*.log >&2 || true
    exit $status
}
trap ends EXIT
"""


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Path]:
    """Where overlays may be laid: they take no overlay below them."""
    place = tmp_path / "layers"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def shell_line(line: str, wheels: Path) -> str:
    """The line of the page as it is typed here: no index, no systemd, a token and a question."""
    if line.startswith("devices/install.sh"):
        # Templates run in a process that looks into no PYTHONPATH.
        given = 'echo "$PYTHONPATH" >"$(echo /opt/goodspeed/lib/python3*/site-packages)/given.pth"'
        return f"{line} --offline {wheels}\n{given}"
    if line.startswith("goodspeed-verifier token add"):
        return f"token=$({line})"
    if "--token -" in line:
        here = line.replace("ws://192.168.1.10:8443", "ws://127.0.0.1:8443")
        return f'echo "$token" | {here}'
    if line.startswith("systemctl enable --now "):
        return line.replace("systemctl enable --now", "start")
    if line == "goodspeed-agent chat":
        waiting = "grep -q 'connected to' $LAYERS/goodspeed-agent.log"
        ready = f"until {waiting}; do kill -0 $!; sleep 0.2; done"
        return f'{ready}\necho "What is the capital of France?" | {line} >"$LAYERS/answer"'
    return line


@pytest.mark.slow
def test_five_commands_each_lead_to_a_chat_and_leave_nothing_but_data(
    layers: Path, tmp_path: Path
) -> None:
    wheels, dependencies = tmp_path / "wheels", tmp_path / "dependencies"
    dependencies.mkdir()
    build_wheel(wheels)
    lines = [shell_line(line, wheels) for line in (*SERVER, *BOARD)]
    leaving = [
        "kill $running; wait; running=",
        "devices/install.sh agent --uninstall",
        "devices/install.sh verifier --uninstall",
        'find /etc /opt /usr/local /var/lib -type f -o -type l | sort >"$LAYERS/after"',
    ]
    script = "\n".join([CLEAN_MACHINE, *lines, *leaving])
    settings = {
        "LAYERS": str(layers),
        "MODEL_FILE": str(real_model()),
        "GOODSPEED_PROFILE": "none",
        "GOODSPEED_MODEL_DIR": "",
    }
    ended = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", script],
        cwd=ROOT,
        env=environment({**dependencies_in(dependencies), **settings}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "Paris" in (layers / "answer").read_text()
    before = set((layers / "before").read_text().splitlines())
    left = set((layers / "after").read_text().splitlines()) - before
    places = ("/etc/goodspeed/", "/var/lib/goodspeed/", *USERS)
    assert [] == [path for path in left if not path.startswith(places)]


# systemd-sysusers locks and backs these up.
USERS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock")
