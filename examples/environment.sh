# Make the virtual environment .venv in the current folder, unless it is there. first_run.sh and tests/run.sh read this.
export PIP_DISABLE_PIP_VERSION_CHECK=1
python=${PYTHON:-python3}

install_debian_packages() {
    if ! command -v apt-get >/dev/null; then
        echo "npgpt needs Python 3.11 or newer with the modules venv and pip; install them, and start again" >&2
        exit 2
    fi
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null; then
        as_root=sudo
    else
        echo "npgpt needs the package python3-venv; let an administrator run: apt-get install python3-venv" >&2
        exit 2
    fi
    echo "installing python3-venv with apt-get"
    $as_root apt-get -qq update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null
}

if [ ! -x .venv/bin/pip ]; then
    command -v "$python" >/dev/null || install_debian_packages
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "npgpt needs Python 3.11 or newer; $("$python" --version) is older. Another one: PYTHON=python3.12 sh $0" >&2
        exit 2
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_debian_packages
    "$python" -m venv .venv
fi
