# Every habit of the project. `just` lists them.
#
# Everything is built in the release profile, so that wasmtime with its compiler is built once: the first build takes
# about 9 minutes on two cores, later ones seconds.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Exported, so that every recipe and every tool in it means the same directory.
export CARGO_TARGET_DIR := absolute_path(env("CARGO_TARGET_DIR", "target"))

program := CARGO_TARGET_DIR / "release/docker-attestor"
wasm := "wasm32-unknown-unknown"
demo_scenario := "fixtures/scenarios/v2-systemd.json"
cargo_deny := "0.20.2"

[private]
default:
    @just --justfile {{ quote(justfile()) }} --list --unsorted

# Build target/release/docker-attestor, with the built-in policy compiled into it
build: guest
    @[ -x {{ quote(program) }} ] || echo "The first build takes about 9 minutes on two cores: wasmtime with its compiler. Later ones take seconds."
    cargo build --release --package docker-attestor
    @echo {{ quote("built " + program) }}

# Build the built-in policy, and bring what that needs
guest:
    #!/usr/bin/env bash
    set -euo pipefail
    target={{ wasm }}
    guest=(cargo build --release --package docker-attestor-policy --target "$target")
    installed() { [ -d "$(rustc --print target-libdir --target "$target")" ]; }

    if ! installed && command -v rustup >/dev/null; then
        echo "guest: the target $target is not installed: rustup target add $target"
        rustup target add "$target" || echo "guest: rustup could not bring it"
    fi
    if installed; then
        "${guest[@]}"
        exit
    fi

    # Debian's compiler carries its library's sources: Cargo builds the library for the target from them.
    echo "guest: using Debian's compiler (/usr/bin/rustc) and building the standard library from its sources"
    packages=(rustc-web rust-web-src lld-22 libllvm22)
    missing=()
    for package in "${packages[@]}"; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        command -v apt-get >/dev/null || {
            echo "guest: no way to build for $target: install the target's standard library for $(rustc --version)" >&2
            exit 1
        }
        as_root=()
        [ "$(id -u)" -eq 0 ] || as_root=(sudo)
        echo "guest: ${as_root[*]} apt-get install ${missing[*]}"
        "${as_root[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
    fi
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 \
        "${guest[@]}" -Z build-std=std,panic_abort

# Attest a real container if an engine answers, else the recorded machine in fixtures/; says which
demo: build
    #!/usr/bin/env bash
    set -euo pipefail
    program={{ quote(program) }}
    started=
    trap '[ -z "$started" ] || docker rm --force "$started" >/dev/null' EXIT

    # The environment of somebody's container may hold secrets: names only.
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
test: guest
    cargo test --release --workspace

# Run the end-to-end tests: a real engine and the real go-plugin client
e2e *arguments: build
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/e2e.sh {{ arguments }}

# Run the end-to-end tests against Docker 29 with the containerd image store, beside any other engine (installs it, some 6 minutes once)
e2e-docker29 *arguments: build
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/docker29.sh e2e.sh {{ arguments }}

# Measure the plugin beside a constant one, and beside another docker attestor plugin with `--against PATH`
bench *arguments: build
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/bench.sh --picture {{ quote(justfile_directory() / "fixtures/bench.svg") }} {{ arguments }}

# Measure the same on Docker 29
bench-docker29 *arguments: build
    DOCKER_ATTESTOR={{ quote(program) }} bash fixtures/docker29.sh bench.sh {{ arguments }}

# Measure what an attestation is made of: matcher, locator, parsers, proof, the sandbox beside its native twin
bench-parts: guest
    cargo bench --package docker-attestor --bench attest -- --noplot

# Check format, clippy, and the dependencies' bans, licences and sources
lint: guest deny-tool
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings
    @if [ -d "$(rustc --print target-libdir --target {{ wasm }})" ]; then \
        echo "cargo clippy --release --package docker-attestor-policy --target {{ wasm }} -- -D warnings"; \
        cargo clippy --release --package docker-attestor-policy --target {{ wasm }} -- -D warnings; \
    else \
        echo "lint: clippy's compiler has no {{ wasm }}: the guest was checked for this machine's target only"; \
    fi
    cargo deny check bans licenses sources

# Check the dependencies for known vulnerabilities (downloads the advisory database)
advisories: deny-tool
    cargo deny check advisories

# Hold matchers and locator to what the Go attestor answers (ATTESTOR_VECTORS names the folder)
vectors: guest
    cargo test --release --package docker-attestor-policy --test vectors -- --nocapture
    cargo test --release --package docker-attestor --test locator -- --nocapture

# Hold what our tests sign to sigstore's own JavaScript verifier (needs Node and npm; installs into fixtures/peers)
sigstore-peers:
    npm ci --prefix fixtures/peers
    cargo test --release --package sigstore-world --test peers -- --nocapture

# Hold the configuration's parser to what the Go HCL decoder answers (ATTESTOR_HCL1_ORACLE names the folder)
hcl1-oracle: guest
    cargo test --release --package docker-attestor --test hcl1_oracle -- --nocapture

# Fuzz each target of host/fuzz for some seconds
[working-directory("host")]
fuzz seconds="60": guest
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

[private]
deny-tool:
    @cargo deny --version >/dev/null 2>&1 || { \
        echo "cargo-deny is missing: cargo install cargo-deny --locked --version {{ cargo_deny }} (some minutes)"; \
        cargo install cargo-deny --locked --version {{ cargo_deny }}; \
    }
