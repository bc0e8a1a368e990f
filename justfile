# The project's recipes. `just` lists them.
#
# Everything is built in the release profile, so that wasmtime with its compiler is built once: the first build takes
# about 9 minutes on two cores, later ones seconds.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Exported, so that every recipe and every tool uses the same directory.
export CARGO_TARGET_DIR := absolute_path(env("CARGO_TARGET_DIR", "target"))

program := CARGO_TARGET_DIR / "release/docker-attestor"
# The program that tests extensions. An installed program saves the build.
attestor := env("DOCKER_ATTESTOR", program)
extensions := CARGO_TARGET_DIR / "extensions"
c_packages := "clang-22 lld-22 wasi-libc"
wasm := "wasm32-unknown-unknown"
windows := "x86_64-pc-windows-gnu"
windows_release := CARGO_TARGET_DIR / windows / "release"
# The crates with code for Windows. The program is among them in every command: without it their dependencies would have other
# features, and wasmtime would be built a second time.
windows_crates := "--package docker-attestor --package bounded --package containers --package registry --package sandbox --package spire-plugin"
# Unit tests that need paths or shells of Linux, or a certificate store, which wine does not have.
windows_skipped := "--skip config:: --skip cli::suggestion:: --skip cli::policy::record:: --skip cli::validate:: --skip ca_certificates --skip environment_is_a_ca --skip private_ca"
demo_scenario := "fixtures/scenarios/v2-systemd.json"
cargo_deny := "0.20.2"
cargo_modules := "0.27.0"

# List the recipes
[private]
default:
    @just --justfile {{ quote(justfile()) }} --list --unsorted

# Build target/release/docker-attestor, with the built-in policy compiled into it
build: target
    @[ -x {{ quote(program) }} ] || echo "The first build takes about 9 minutes on two cores: wasmtime with its compiler. Later ones take seconds."
    cargo build --release --package docker-attestor
    @echo {{ quote("built " + program) }}

# Build the built-in policy with Debian's compiler, if rustup cannot install its target (otherwise `just build` builds it)
guest: (sandboxed "--package" "docker-attestor-policy")

# Copy guest/template to a new extension, in guest/extensions/NAME or another folder
new-extension name folder="": (copy-template "template" "my-extension" "guest/extensions" name folder)

# Copy guest/policy-template to a new policy on the built-in one, in guest/policies/NAME or another folder
new-policy name folder="": (copy-template "policy-template" "my-policy" "guest/policies" name folder)

# Build an extension or a policy from its folder, in Rust (Cargo.toml) or C (extension.c, VERSION), and print the component's sha256
[positional-arguments]
extension folder:
    #!/usr/bin/env bash
    set -euo pipefail
    folder=$(cd {{ quote(invocation_directory()) }} && realpath -- "$1")
    name=$(basename "$folder")
    componentize=(cargo run --package componentize --)
    if [ -f "$folder/Cargo.toml" ]; then
        {{ just_executable() }} sandboxed --manifest-path "$folder/Cargo.toml"
        # …/NAME#VERSION, or …#NAME@VERSION where the folder has another name
        package=$(cargo pkgid --manifest-path "$folder/Cargo.toml")
        package=${package##*#}
        version=${package##*@}
        [ "$version" = "$package" ] && crate=$name || crate=${package%@*}
        module=$CARGO_TARGET_DIR/{{ wasm }}/release/${crate//-/_}.wasm
    elif [ -f "$folder/extension.c" ]; then
        {{ just_executable() }} debian {{ c_packages }}
        version=$(<"$folder/VERSION")
        bindings=$CARGO_TARGET_DIR/c-bindings
        module=$bindings/$name.wasm
        mkdir -p "$bindings"
        "${componentize[@]}" c-bindings wit extension "$bindings"
        # Debian's wasi-libc has the target's old name. A function of it that needs WASI is refused when the module is encoded.
        clang-22 --target=wasm32-wasi -Wno-deprecated -O2 -Wall -Wextra -I "$bindings" -nostartfiles -nodefaultlibs -Wl,--no-entry,--strip-debug \
            -o "$module" "$folder/extension.c" "$bindings"/extension{.c,_component_type.o} -lc
    else
        echo "extension: neither Cargo.toml nor extension.c is in $folder" >&2
        exit 1
    fi
    mkdir -p {{ quote(extensions) }}
    [ -f "$folder/needs.json" ] && needs=("$folder/needs.json") || needs=()
    "${componentize[@]}" encode "$module" "$version" {{ quote(extensions) }}/"$name.wasm" "${needs[@]}"
    sha256sum {{ quote(extensions) }}/"$name.wasm"

# Build an extension or a policy from its folder, and run its scenarios
[positional-arguments]
test-extension folder: (extension folder) ready
    @cd {{ quote(invocation_directory()) }} && {{ quote(attestor) }} policy test {{ quote(extensions) }}/"$(basename "$(realpath -- "$1")")".wasm "$1/scenarios"

# Build and test fresh copies of both templates, guest/rules, and every extension in guest/examples
test-extensions: ready
    #!/usr/bin/env bash
    set -euo pipefail
    export DOCKER_ATTESTOR={{ quote(attestor) }}
    fresh=$(mktemp --directory)
    trap 'rm -r "$fresh"' EXIT
    {{ just_executable() }} new-extension fresh "$fresh/fresh"
    {{ just_executable() }} new-policy fresh-policy "$fresh/fresh-policy"
    for folder in "$fresh"/*; do
        cargo clippy --release --manifest-path "$folder/Cargo.toml" -- -D warnings
    done
    for folder in "$fresh"/* guest/rules guest/examples/*; do
        echo "== $folder"
        if [ -f "$folder/extension.c" ] && ! {{ just_executable() }} debian {{ c_packages }}; then
            echo "skipped: C needs what Debian calls {{ c_packages }}"
            continue
        fi
        {{ just_executable() }} test-extension "$folder"
    done

# Attest a container of this machine, or a recorded machine if no engine answers; the output says which
demo: build
    #!/usr/bin/env bash
    set -euo pipefail
    program={{ quote(program) }}
    started=
    trap '[ -z "$started" ] || docker rm --force "$started" >/dev/null' EXIT

    # The environment of a container may hold secrets, so only names are printed.
    without_values() { sed -E 's/^(docker:env:[^=]*=).*/\1…/'; }

    # A process of a running container: its cgroup names one, and the attestor proves it.
    running() {
        local seen=" " id pid
        for pid in $(cd /proc && printf '%s\n' [0-9]* | sort -n); do
            id=$(grep -m 1 -oE '[0-9a-f]{64}' "/proc/$pid/cgroup" 2>/dev/null) || continue
            [[ $seen != *" $id "* ]] || continue
            seen+="$id "
            [ ${#seen} -lt 700 ] || return 0 # ten ids are enough
            if "$program" attest --pid "$pid" 2>/dev/null | grep -q '^docker:'; then
                echo "$pid"
                return
            fi
        done
    }

    # A throw-away container of an image that is here already, else of busybox: nothing is pulled.
    throw_away() {
        local image id busybox run=(docker run --detach --rm --network none --label app=demo --label tier=web)
        command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1 || return 0
        for image in $(docker images --filter dangling=false --format '{{{{.Repository}}:{{{{.Tag}}' | head -n 5); do
            id=$("${run[@]}" --entrypoint sleep "$image" 60 2>/dev/null) && echo "$id" && return
        done
        busybox=$(command -v busybox) || return 0
        tar --create --directory "$(dirname "$busybox")" busybox | docker import - docker-attestor-demo/busybox:1 >/dev/null
        "${run[@]}" docker-attestor-demo/busybox:1 /busybox sleep 60 || true
    }

    pid=$(running)
    if [ -n "$pid" ]; then
        echo "== a container that runs on this machine (process $pid; env values are left out here)"
    else
        started=$(throw_away)
        [ -z "$started" ] || pid=$(docker inspect --format '{{{{.State.Pid}}' "$started")
        [ -z "$pid" ] || echo "== a container started for this on this machine's engine, removed afterwards (process $pid)"
    fi
    if [ -n "$pid" ]; then
        "$program" attest --pid "$pid" | without_values
        echo
        "$program" explain --pid "$pid"
    else
        echo "== a recorded machine ({{ demo_scenario }}): no container runs here, or its engine does not answer us"
        "$program" attest --scenario {{ demo_scenario }}
        echo
        "$program" explain --scenario {{ demo_scenario }}
    fi

# Run all tests that need no engine
test: target
    cargo test --release --workspace

# Run the end-to-end tests with a real engine, a real registry and the real go-plugin client; arguments go to `go test`
[positional-arguments]
e2e *arguments: build test-bed example
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/e2e/e2e.sh "$@"

# Run the end-to-end tests on Docker 29 with the containerd image store (installs it beside any other engine, some 6 minutes, once)
[positional-arguments]
e2e-docker29 *arguments: build test-bed example
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/e2e/docker29.sh e2e.sh "$@"

# Build target/x86_64-pc-windows-gnu/release/docker-attestor.exe, the program for Windows (needs mingw and nasm)
windows: target windows-target
    cargo build --release --package docker-attestor --target {{ windows }}
    @# mingw's own DLLs are not there on Windows.
    @! x86_64-w64-mingw32-objdump --private-headers {{ quote(windows_release / "docker-attestor.exe") }} | grep 'DLL Name: lib'
    @echo {{ quote("built " + windows_release / "docker-attestor.exe") }}

# Run the unit tests and the end-to-end tests of the program for Windows under wine; arguments go to the latter, as `-test.run NAME`
[positional-arguments]
test-windows *arguments: target windows-target
    {{ just_executable() }} debian wine wine64
    CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine fixtures/windows/wine.sh \
        cargo test --release --target {{ windows }} {{ windows_crates }} --lib -- {{ windows_skipped }}
    cargo build --release --target {{ windows }} --package docker-attestor --example docker_attestor_wine
    DOCKER_ATTESTOR={{ quote(windows_release / "examples/docker_attestor_wine.exe") }} fixtures/windows/e2e.sh "$@"

# Measure the plugin beside plugins that answer a constant; `--against PATH` (absolute) adds another docker attestor plugin
[positional-arguments]
bench *arguments: build floors
    DOCKER_ATTESTOR={{ quote(program) }} FLOORS={{ quote(parent_directory(program)) }} bash fixtures/e2e/bench.sh --picture {{ quote(justfile_directory() / "fixtures/e2e/bench.svg") }} "$@"

# Measure the plugin as `just bench` does, on Docker 29
[positional-arguments]
bench-docker29 *arguments: build floors
    DOCKER_ATTESTOR={{ quote(program) }} FLOORS={{ quote(parent_directory(program)) }} bash fixtures/e2e/docker29.sh bench.sh "$@"

# Build the constants in Rust beside the program, with the same features of what both use
[private]
floors: target
    cargo build --release --package docker-attestor --package floors

# Swap policies while 64 callers attest, and check that no call fails or is delayed and that memory does not grow
[positional-arguments]
swap-under-load *arguments: build (extension justfile_directory() / "guest/examples/compose")
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/e2e/swap.sh --extension {{ quote(extensions / "compose.wasm") }} "$@"

# Measure the parts of an attestation, such as parsers, proof, a cached verdict and the sandbox
bench-parts: target (extension justfile_directory() / "guest/examples/compose")
    BENCH_EXTENSION={{ quote(extensions / "compose.wasm") }} cargo bench --package docker-attestor --bench attest -- --noplot

# Check format, clippy, and the dependencies' bans, licences and sources
lint: target deny-tool
    cargo fmt --all --check
    rustfmt --check --edition 2024 guest/template/src/lib.rs guest/policy-template/src/lib.rs
    cargo clippy --release --workspace --all-targets -- -D warnings
    @if [ -d "$(rustc --print target-libdir --target {{ wasm }})" ]; then \
        echo "cargo clippy --release --package docker-attestor-policy --target {{ wasm }} -- -D warnings"; \
        cargo clippy --release --package docker-attestor-policy --target {{ wasm }} -- -D warnings; \
    else \
        echo "lint: clippy's compiler has no {{ wasm }}: the guest was checked for this machine's target only"; \
    fi
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --release --no-deps --workspace
    cargo deny check bans licenses sources

# Check the code for Windows with clippy
lint-windows: target windows-target
    cargo clippy --release --target {{ windows }} {{ windows_crates }} --lib --bins --examples -- -D warnings

# Check the dependencies for known vulnerabilities (downloads the advisory database)
advisories: deny-tool
    cargo deny check advisories

# Compare matchers and locator with recorded answers of the Go attestor (ATTESTOR_VECTORS names the folder)
vectors: target
    cargo test --release --package docker-attestor-policy --test vectors -- --nocapture
    cargo test --release --package docker-attestor --test all locator -- --nocapture

# The whole workspace is named so that dependencies keep the features that they were built with.
#
# Let sigstore's JavaScript verifier judge our signatures, and ours judge its client's (needs Node and npm; installs into fixtures/peers)
sigstore-peers: target
    npm ci --prefix fixtures/peers
    cargo test --release --workspace --test peers -- --nocapture
    cargo test --release --workspace --test all peers -- --nocapture

# Run the sigstore project's conformance cases against the seven rules (ATTESTOR_SIGSTORE names the folder)
sigstore-conformance: target
    cargo test --release --workspace --test all conformance -- --nocapture

# Compare the configuration's parser with recorded answers of the Go HCL decoder (ATTESTOR_HCL1_ORACLE names the folder)
hcl1-oracle:
    cargo test --release --package hcl1 --test all -- oracle --nocapture

# Check the alerts, their tests and the dashboard (promtool, Grafana's types for dashboards, and Grafana's linter where it is installed)
monitoring:
    #!/usr/bin/env bash
    set -euo pipefail
    # Debian's package starts a server too, so it is installed only if promtool is missing.
    command -v promtool >/dev/null || {{ just_executable() }} debian prometheus
    promtool check rules host/monitoring/alerts.yaml
    promtool test rules host/monitoring/alerts_test.yaml
    queries=$(mktemp --suffix .yaml)
    trap 'rm "$queries"' EXIT
    go -C fixtures/monitoring vet .
    go -C fixtures/monitoring run . check ../../host/monitoring/dashboard.json >"$queries"
    promtool check rules "$queries"
    if command -v dashboard-linter >/dev/null; then
        dashboard-linter lint --strict host/monitoring/dashboard.json
    else
        echo "monitoring: Grafana's dashboard-linter is not installed: its check is skipped"
    fi

# Fail if modules of a crate use one another in a circle (cargo-modules draws them; the first run takes some minutes)
circles:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo modules --version >/dev/null 2>&1 || {
        echo "circles: cargo-modules is missing: cargo install cargo-modules --locked --version {{ cargo_modules }} (some minutes)"
        cargo install cargo-modules --locked --version {{ cargo_modules }}
    }
    # Methods and From impls that stand in the file of a module above: cargo-modules counts them as the type's own.
    impls='^(error (config|update)|container proof|plugin server|document (decode|warnings))$'
    only_modules=(--no-externs --no-sysroot --no-types --no-traits --no-fns --no-owns)
    failed=0
    for folder in host/*/; do
        [ -f "$folder/Cargo.toml" ] || continue
        package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$folder/Cargo.toml" | head -n 1)
        # "crate::a::b" -> "crate::c" becomes the pair "a c". tsort names the modules of a circle, and fails.
        cargo modules dependencies --package "$package" --lib "${only_modules[@]}" |
            sed -nE 's/^ *"[^":]+::([a-z0-9_]+)[^"]*" -> "[^":]+::([a-z0-9_]+)[^"]*".*/\1 \2/p' | awk '$1 != $2' | sort -u |
            { grep -vE "$impls" || true; } | tsort >/dev/null && echo "$package: no circle" || { echo "$package: a circle, see above" >&2; failed=1; }
    done
    exit $failed

# Fuzz each target of host/hcl1/fuzz, for 60 s unless another number is given
[working-directory("host/hcl1")]
fuzz seconds="60":
    #!/usr/bin/env bash
    set -euo pipefail
    cargo fuzz --version >/dev/null 2>&1 || {
        echo "fuzz: cargo-fuzz is missing: cargo install cargo-fuzz --locked (some minutes)"
        cargo install cargo-fuzz --locked
    }
    # The sanitizers' flags are unstable; the compiler stays the one that everything else is built with.
    export RUSTC_BOOTSTRAP=1
    for name in $(cargo fuzz list); do
        echo "== $name"
        cargo fuzz run --target-dir "$CARGO_TARGET_DIR" "$name" -- -max_total_time={{ seconds }} -timeout=10
    done

# Copy a template of guest/ and replace its name
[private]
[positional-arguments]
copy-template template placeholder folders name folder:
    #!/usr/bin/env bash
    set -euo pipefail
    template=$1 placeholder=$2 folder=$3/$4 name=$4
    [[ $name =~ ^[a-z][a-z0-9-]{0,63}$ ]] || { echo "$name: the name may have a-z, 0-9 and -, and begins with a letter" >&2; exit 1; }
    [ -z "$5" ] || folder=$(cd {{ quote(invocation_directory()) }} && realpath --canonicalize-missing -- "$5")
    [ ! -e "$folder" ] || { echo "$folder is there already" >&2; exit 1; }
    mkdir -p "$(dirname "$folder")"
    # The contract in it is a link here and a copy there: the folder may go anywhere.
    cp --recursive --dereference "guest/$template" "$folder"
    # The versions that are tested here; Cargo leaves out what the component does not need.
    cp Cargo.lock "$folder"
    sed -i "s/$placeholder/$name/g" "$folder/Cargo.toml" "$folder"/src/* "$folder"/scenarios/*
    # A policy is built on the built-in one of this clone.
    manifest=$(<"$folder/Cargo.toml")
    printf '%s\n' "${manifest/'path = ".."'/"path = \"$PWD/guest\""}" >"$folder/Cargo.toml"
    echo "$folder: edit src/lib.rs and scenarios/, then: just test-extension $folder"

# Install the policy's target, which Cargo's build needs; if rustup cannot, build the policy with another compiler
[private]
target:
    @[ -d "$(rustc --print target-libdir --target {{ wasm }})" ] || rustup target add {{ wasm }} || {{ just_executable() }} guest

# Install what Cargo needs to build for Windows: rustup's library, and mingw and nasm for the code in C and assembler
[private]
windows-target:
    @{{ just_executable() }} debian gcc-mingw-w64-x86-64-posix nasm
    @[ -d "$(rustc --print target-libdir --target {{ windows }})" ] || rustup target add {{ windows }}

# Build target/release/sigstore-fixtures, which signs the images of the end-to-end tests
[private]
test-bed:
    cargo build --release --package sigstore-fixtures

# Build target/release/examples/process_name, the example of the crate spire-plugin. Both packages are named so that their common
# dependencies are built once, with the same features.
[private]
example:
    cargo build --release --package spire-plugin --package docker-attestor --example process_name

# Build the program, unless DOCKER_ATTESTOR names one
[private]
ready:
    @[ -n "${DOCKER_ATTESTOR:-}" ] || {{ just_executable() }} build

# Build a module for the sandbox's target with Cargo, with rustup's library for it or with Debian's compiler and its sources
[private]
[positional-arguments]
sandboxed *arguments:
    #!/usr/bin/env bash
    set -euo pipefail
    target={{ wasm }}
    build=(cargo rustc --release --target "$target" --lib --crate-type cdylib "$@")
    installed() { [ -d "$(rustc --print target-libdir --target "$target")" ]; }

    if ! installed && command -v rustup >/dev/null; then
        echo "the target $target is not installed: rustup target add $target"
        rustup target add "$target" || echo "rustup could not bring it"
    fi
    if installed; then
        "${build[@]}"
        exit
    fi

    # Cargo builds the library for the target from the sources.
    echo "using Debian's compiler (/usr/bin/rustc) and building the standard library from its sources"
    {{ just_executable() }} debian rustc-web rust-web-src lld-22 libllvm22
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 \
        "${build[@]}" -Z build-std=std,panic_abort

# Install the missing ones of some Debian packages
[private]
[positional-arguments]
debian *packages:
    #!/usr/bin/env bash
    set -euo pipefail
    missing=()
    for package in "$@"; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || exit 0
    command -v apt-get >/dev/null || {
        echo "missing, and there is no apt-get: install what Debian calls ${missing[*]}" >&2
        exit 1
    }
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "${as_root[*]} apt-get install ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"

# Install cargo-deny, if it is missing
[private]
deny-tool:
    @cargo deny --version >/dev/null 2>&1 || { \
        echo "cargo-deny is missing: cargo install cargo-deny --locked --version {{ cargo_deny }} (some minutes)"; \
        cargo install cargo-deny --locked --version {{ cargo_deny }}; \
    }
