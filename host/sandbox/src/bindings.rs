//! The contract of `wit/` as Rust types and traits. No other file uses `bindgen!`.

#![expect(missing_docs, reason = "the documentation is in wit/policy.wit")]
#![deny(unsafe_code)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "policy",
    imports: { default: async | trappable },
    exports: { default: async },
    additional_derives: [PartialEq],
});

/// The world `extension`.
pub(crate) mod extension {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "extension",
        with: { "docker-attestor:policy/log@1.1.0": super::docker_attestor::policy::log },
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [PartialEq],
    });
}

/// The interface `settings-validator`, alone: whether an extension exports it is known once the extension is compiled.
pub(crate) mod validation {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package docker-attestor:host;
            world validation { export docker-attestor:policy/settings-validator@1.1.0; }
        ",
        world: "docker-attestor:host/validation",
        exports: { default: async },
    });
}
