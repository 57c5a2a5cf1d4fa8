#!/usr/bin/env bash
# Packs the project and all that it needs for a GPU host that reaches no package registry.
#
#   experiments/gpu_host.sh [-p MEGABYTES] [-x NAME]... OUT [REQUIREMENT]...
#
# writes OUT/part.000, part.001, ... of at most MEGABYTES each (40), SHA256SUMS and unpack.sh. Carry OUT to the host, all at once
# or part by part, and run `sh OUT/unpack.sh FOLDER` there. The host needs Linux on x86-64, Python 3.12 and a C compiler, no pip.
#
#   -x NAME      leave a package out, since the host has it; may be given again
#   REQUIREMENT  pack this too: pytest and hypothesis for the tests; nvidia-cuda-runtime, nvidia-cuda-nvrtc and nvidia-cuda-cccl
#                for a host that has the driver alone, without a CUDA toolkit
#   PYTHON       the variable names the Python whose pip downloads; best one of version 3.12
#   XZ_OPT       another variable; -1 packs faster, into larger parts
set -euo pipefail

megabytes=40 left_out=()
while getopts p:x: option; do
    case $option in
        p) megabytes=$OPTARG ;;
        x) left_out+=("$OPTARG") ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ] || ! [ "$megabytes" -gt 0 ] 2>/dev/null; then
    echo "usage: gpu_host.sh [-p MEGABYTES] [-x NAME]... OUT [REQUIREMENT]..." >&2
    exit 2
fi
out=$1 && shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
    echo "gpu_host.sh: $out is not empty; name a new folder." >&2
    exit 2
fi
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/wheels" "$work/tree" "$work/tree/site" "$work/tree/project"

"$python" - "$root/pyproject.toml" > "$work/requirements" << 'EOF'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["cuda"], *extras["xgboost"], *extras["plot"], sep="\n")
EOF
platforms=(--platform manylinux1_x86_64 --platform manylinux2010_x86_64 --platform manylinux2014_x86_64)
for minor in $(seq 5 39); do
    platforms+=(--platform "manylinux_2_${minor}_x86_64")
done
"$python" -m pip download --quiet --only-binary=:all: --python-version 3.12 --implementation cp \
    --abi cp312 --abi abi3 --abi none "${platforms[@]}" --dest "$work/wheels" --requirement "$work/requirements" "$@"
for name in ${left_out[@]+"${left_out[@]}"}; do
    rm "$work/wheels/${name//-/_}"-[0-9]*.whl 2> /dev/null || {
        echo "gpu_host.sh: -x $name: no such package is needed; leave the option out." >&2
        exit 2
    }
done

for wheel in "$work"/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$work/tree/site"
done
for data in "$work"/tree/site/*.data; do # what a wheel keeps apart from its modules: more modules, and scripts, which stay behind
    for part in "$data"/purelib "$data"/platlib; do
        [ ! -d "$part" ] || cp -r "$part"/. "$work/tree/site"
    done
    rm -rf "$data"
done
# The project travels as its sources; what an installation would know of it, its version for example, lies with the packages.
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/own" "$root"
"$python" -m zipfile -e "$work"/own/*.whl "$work/own"
cp -r "$work"/own/*.dist-info "$work/tree/site"
tar c -C "$root" --exclude=__pycache__ surrogates search tvm_bridge experiments tests pyproject.toml README.md Makefile LICENSE |
    tar x -C "$work/tree/project"

tar c -C "$work/tree" --owner=0 --group=0 --numeric-owner --sort=name site project | xz -T0 |
    split --bytes="${megabytes}MB" --numeric-suffixes --suffix-length=3 - "$out/part."
cat > "$out/unpack.sh" << 'EOF'
#!/bin/sh
# Checks and unpacks what gpu_host.sh has packed into a folder, and writes FOLDER/env.sh: the environment to work in.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 1 ]; then
    echo "usage: sh unpack.sh FOLDER" >&2
    exit 2
fi
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || {
    echo "unpack.sh: $python is not Python 3.12, which the packages are for; name one by the variable PYTHON." >&2
    exit 2
}
(cd "$here" && sha256sum --check --quiet SHA256SUMS)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cat "$here"/part.* | "$python" -c '
import sys, tarfile

with tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz") as packed:
    packed.extractall(sys.argv[1], filter="tar")
' "$folder"
libraries=$(find "$folder/site" -path '*/nvidia/*' -type d -name lib | paste -s -d : -)
cat > "$folder/env.sh" << END
export PYTHONPATH="$folder/project:$folder/site\${PYTHONPATH:+:\$PYTHONPATH}"
export LD_LIBRARY_PATH="\${LD_LIBRARY_PATH-}${libraries:+\${LD_LIBRARY_PATH:+:}$libraries}"
export JAX_PLATFORMS=cpu # the search thinks on the CPU: the GPU is for what is measured
gausstune() { "$python" -m tvm_bridge.cli "\$@"; }
END
echo "unpacked; now: . $folder/env.sh && cd $folder/project"
EOF
(cd "$out" && sha256sum part.* > SHA256SUMS)
du -h --total "$out"/part.* | tail -1
