# Install the C kernels where they can be compiled, or say in one line why not. Without them PyTorch predicts.
# Example: PYTHON=.venv/bin/python sh scripts/install_kernels.sh
log=build/kernels.log
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "no C kernels: they are for Linux on x86-64, but this is $(uname -sm)"
elif ! command -v "${CC:-cc}" > /dev/null; then
  echo "no C kernels: there is no compiler ${CC:-cc}; gcc 10 or newer compiles them"
elif mkdir -p build && ! "$PYTHON" -m pip install --no-build-isolation --no-deps --force-reinstall ./kernels > $log 2>&1; then
  echo "no C kernels: gcc 10 or newer compiles them, ${CC:-cc} did not ($log)"
fi
