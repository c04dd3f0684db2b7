# ctest: timeout=900
# tools/build_cluster as an ordinary user of a machine without the development packages of the small
# libraries: what is missing is named, archives of a wrong content are refused, and with those of
# Debian's source packages the installed program gives the results of the one under test.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
((EUID == 0)) || skip "not root: cannot hide packages and become another user"
for program in unshare setpriv tclsh git; do
    command -v "$program" >/dev/null || skip "no $program"
done
unshare --mount true 2>/dev/null || skip "unshare --mount is not allowed"

# The archives come from Debian, with lists of this test's own: few machines have deb-src lines.
mkdir -p apt/lists/partial apt/parts archives
list=/etc/apt/sources.list.d/debian.sources
[[ -e $list ]] || skip "no $list to find Debian's source packages with"
sed 's/^Types: deb$/Types: deb-src/' "$list" >apt/parts/sources.sources
apt=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$WORK/apt/parts"
    -o "Dir::State::lists=$WORK/apt/lists" -o "Dir::Cache=$WORK/apt" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update >apt/log 2>&1 &&
    (cd archives && apt-get "${apt[@]}" source --download-only \
        libyaml jansson sqlite3 xxhash >>../apt/log 2>&1) ||
    skip "apt-get source: $(tail -n 1 apt/log)"

# What an ordinary user sees: no file of these packages under its name in /usr/include and nothing
# that pkg-config knows. Their shared libraries stay, since Slurm and others need them, without
# the names that a linker looks for.
cat >hidden <<'SH'
set -e
for header in yaml jansson sqlite3 xxhash cmocka; do
    file=/usr/include/$header.h
    if [ -e "$file" ]; then mount --bind /dev/null "$file"; fi
done
for folder in $(pkg-config --variable=pc_path pkg-config | tr : ' '); do
    [ -d "$folder" ] || continue
    rm -rf "$WORK/pc"
    cp -r "$folder" "$WORK/pc"
    for name in yaml-0.1 jansson sqlite3 libxxhash cmocka; do rm -f "$WORK/pc/$name.pc"; done
    mount -t tmpfs tmpfs "$folder"
    cp -r "$WORK/pc/." "$folder"
done
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
SH
# An ordinary user's own copy of the source and folder for the results.
mkdir -p user/home source
(cd "$QZO_SOURCE" && git ls-files --cached --others --exclude-standard -z |
    tar --null -cf - --files-from=-) | tar -xf - -C source
chmod 755 "$WORK" && chown -R 65534:65534 user source
as_user() {
    env -i PATH="$PATH" HOME="$WORK/user/home" TMPDIR="$WORK/user" WORK="$WORK" \
        CC="env gcc" LOADEDMODULES=gcc/12:openmpi/4.1 OMPI_MCA_rmaps_base_oversubscribe=1 \
        OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none \
        OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader \
        unshare --mount --propagation=private sh "$WORK/hidden" "$@"
}
prefix=$WORK/user/qzo

# Nothing given: all four are named, each with where it comes from.
run 3 as_user source/tools/build_cluster --prefix "$prefix"
for library in yaml-0.1 jansson sqlite3 libxxhash; do
    says stderr "^qzo:   $library: a module, or PKG_CONFIG_PATH, or --sources"
done
says stderr 'sqlite-autoconf-3400100.tar.gz +https://'
run 3 as_user source/tools/build_cluster --prefix /proc/qzo
says stderr 'cannot write to /proc/qzo'

# An archive that is not what it is called.
cp -r archives altered
printf 'x' >>altered/jansson_2.14.orig.tar.gz
run 2 as_user source/tools/build_cluster --prefix "$prefix" --sources altered
says stderr 'jansson_2.14.orig.tar.gz: expected SHA-256 c739578b.*, found'

run 0 as_user source/tools/build_cluster --prefix user/qzo --sources archives --jobs 2 \
    -- -DQZO_CUDA=OFF
says stdout 'transports local MPI'
[[ $(stat -c %u "$prefix/bin/qzo") == 65534 ]] || fail "not built by the ordinary user"
ldd "$prefix/bin/qzo" >libraries
says_not libraries 'yaml|jansson|sqlite|xxhash|not found'
says libraries 'libmpi'

# The batch files know where they are and which modules the program was built with.
for file in run_sweep.sh run_one_node.sbatch run_many_nodes.sbatch run_array.sbatch; do
    same "$QZO_SOURCE/slurm/$file" "$prefix/share/qzo/slurm/$file" "an installed batch file"
done
settings=$prefix/share/qzo/slurm/cluster.env
says "$settings" "^export QZO_PROGRAM=$prefix/bin/qzo\$"
says "$settings" '^    module load gcc/12$'
says "$settings" '^    module load openmpi/4.1$'
bash -n "$settings" || fail "cluster.env is no shell"

# A second call rebuilds nothing that is there and keeps what the site has changed.
printf '# ours\n' >>"$settings"
run 0 as_user source/tools/build_cluster --prefix "$prefix" --sources archives --jobs 2 \
    -- -DQZO_CUDA=OFF
says stderr 'jansson 2.14: found'
says stderr 'cluster.env is kept'
says "$settings" '^# ours$'

# The same journals as those of the program under test.
write_sweep sweep.yaml "steps: 12, batch: 8, samples_per_step: 3, evaluate_every: 4" \
    "learning_rate: { values: [1e-5, 1e-4] }"
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out expected --threads 1
sed "s|$QZO_SOURCE|$WORK/source|" sweep.yaml >user/sweep.yaml
run 0 as_user mpirun -n 2 "$prefix/bin/qzo" run user/sweep.yaml --out user/out --threads 1
same_journals expected user/out "the journals of the installed program"
run 0 "$QZO" report expected --csv
mv stdout expected.csv
run 0 as_user "$prefix/bin/qzo" report user/out --csv
same expected.csv stdout "the table of the installed program"
