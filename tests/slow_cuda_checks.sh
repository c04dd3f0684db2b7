# ctest: timeout=1200
# The CUDA module compiles with QZO_CUDA_CHECKS, for one kind of device, and refuses a machine
# without one as the usual build does.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
command -v nvcc >/dev/null || skip "no nvcc"
run 0 cmake -S "$QZO_SOURCE" -B checks -DQZO_CUDA=ON -DQZO_CUDA_CHECKS=ON -DQZO_TESTS=OFF \
    -DCMAKE_CUDA_ARCHITECTURES=90a-real
run 0 cmake --build checks --parallel 2
strings -a checks/libqzo_cuda.so >strings
says strings 'a buffer of .* bytes of device memory'
run 0 checks/qzo --version
says stdout '^backends cuda'

# An assertion ends the kernel; a usual build has none.
for checks in '' -DQZO_CUDA_CHECKS=1; do
    run 0 nvcc -std=c++17 -arch=compute_80 -ptx $checks -I "$QZO_SOURCE" -I "$QZO_SOURCE/src" \
        "$QZO_SOURCE/kernels/loss.cu" -o "loss$checks.ptx"
done
says_not loss.ptx 'trap;'
says loss-DQZO_CUDA_CHECKS=1.ptx 'trap;'
