#!/usr/bin/env bash
# Makes .venv with everything pinned by constraints.txt, and what the local stack's servers
# need besides: see headrace_local.tools. Does nothing when nothing has changed since it last ran.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=.venv
stamp=$venv/.installed

fail() {
	printf 'setup: %s\n' "$1" >&2
	exit 1
}

state() {
	"$python" --version
	cat constraints.txt requirements.in libs/*/pyproject.toml services/*/pyproject.toml \
		cli/pyproject.toml examples/*/pyproject.toml libs/local/src/headrace_local/*requirements*.txt \
		scripts/setup.sh | sha256sum
	pwd
}

command -v "$python" >/dev/null || fail "no $python; install Python 3.11 or later"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	fail "$("$python" --version) is too old; Headrace needs 3.11 (make setup PYTHON=python3.11)"

[[ -f $stamp && $(<"$stamp") == "$(state)" ]] && exit 0

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
	# Debian and Ubuntu ship venv apart from Python.
	[[ $(id -u) == 0 ]] || fail "install the package python3-venv first"
	printf 'Installing python3-venv ...\n'
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null
fi

printf 'Installing Python packages into %s ...\n' "$venv"
[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -c constraints.txt -r requirements.in
tool() {
	"$venv/bin/python" -c "from headrace_local import tools; tools.ensure_$1()"
}
printf 'Installing the SQS emulator ...\n'
tool ministack
printf 'Installing OpenStack Swift and Keystone ...\n'
tool openstack
printf 'Unpacking Redis 7 for the tests ...\n'
# Only tests run it, against both kinds of server; everything else stands on Valkey.
tool debian_redis 2>/dev/null || printf 'setup: no Redis 7 here; the tests that want it will say why\n' >&2
printf 'Unpacking Prometheus for the tests of its rules ...\n'
tool prometheus 2>/dev/null || printf 'setup: no Prometheus here; the tests that want it will say why\n' >&2
state >"$stamp"
