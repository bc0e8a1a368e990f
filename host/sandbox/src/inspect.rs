//! The description of a component, read from its bytes before any of it is compiled: which contract it speaks, what it imports, and
//! how much work the compiler would have.

use std::fmt;

use semver::Version;
use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

use crate::limits;
use crate::needs::{self, Needs};

/// The package of the contract in wit/.
const PACKAGE: &str = "docker-attestor:policy/";
/// The version of the contract that this program speaks.
pub const CONTRACT: Version = Version::new(1, 1, 0);

/// A world of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// A policy: exports `attestor`.
    Policy,
    /// An extension: exports `deriver`.
    Extension,
}

impl World {
    fn export(self) -> &'static str {
        match self {
            World::Policy => "attestor",
            World::Extension => "deriver",
        }
    }

    fn imports(self) -> &'static [&'static str] {
        match self {
            World::Policy => &["types", "process", "job-objects", "docker", "sigstore", "log"],
            World::Extension => &["log"],
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            World::Policy => "policy",
            World::Extension => "extension",
        })
    }
}

/// Why a component is refused before it is compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The bytes are no component.
    #[error("it is no WebAssembly component: {0}")]
    Malformed(String),
    /// The bytes are a core module.
    #[error(
        "it is a core module, not a component: encode it first, as `just extension` or `wasm-tools component new` does"
    )]
    Module,
    /// The component is too large for the compiler.
    #[error("it has {what}: at most {limit} may be")]
    TooMuch {
        /// The number and the kind of what the component has.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// The component does not say in the right form what it needs of its configuration.
    #[error("its section {section} is malformed: {0}", section = needs::SECTION)]
    Needs(String),
    /// The component exports no world of the contract.
    #[error("it exports neither {PACKAGE}attestor (a policy) nor {PACKAGE}deriver (an extension)")]
    NoWorld,
    /// The component exports both worlds of the contract.
    #[error("it exports both {PACKAGE}attestor (a policy) and {PACKAGE}deriver (an extension): make two of it")]
    BothWorlds,
    /// The component is of the other world.
    #[error("it is of the world {found}, and a component of the world {expected} is needed here")]
    OtherWorld {
        /// The component's world.
        found: World,
        /// The world that is needed.
        expected: World,
    },
    /// The component speaks another major version of the contract.
    #[error("it speaks version {found} of the contract, this program speaks {CONTRACT}: build it for {}.x", CONTRACT.major)]
    OtherMajor {
        /// The component's version.
        found: Version,
    },
    /// The component imports what is no part of the contract.
    #[error(
        "it imports {import:?}, which a component of the world {world} may not: nothing but {PACKAGE}… exists for it"
    )]
    ForeignImport {
        /// The import's name.
        import: String,
        /// The component's world.
        world: World,
    },
    /// The component imports an interface that this version of the contract does not have for the component's world.
    #[error("it imports {import:?}, which version {CONTRACT} of the contract does not have for the world {world}")]
    MissingImport {
        /// The import's name.
        import: String,
        /// The component's world.
        world: World,
    },
}

/// The description of a component, read from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The digest of the component, `sha256:…`.
    pub digest: String,
    /// The size in bytes.
    pub size: usize,
    /// The version that the component's author gave it (custom section `version`, as wasm-metadata writes it).
    pub version: Option<Version>,
    /// What it needs of its configuration, if it says so.
    pub needs: Option<Needs>,
    /// The names of its imports.
    pub imports: Vec<String>,
    /// The names of its exports.
    pub exports: Vec<String>,
    /// The number of functions in all its modules.
    pub functions: u32,
    /// The bytes of code in all its modules.
    pub code: usize,
}

/// The digest of a component, as `sha256sum` prints it, after `sha256:`.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Description {
    /// Reads a component, in time that grows with its size only.
    ///
    /// # Errors
    /// The bytes are no component, or the component is too large for the compiler.
    pub fn of(bytes: &[u8]) -> Result<Description, Refused> {
        let mut description = Description {
            digest: digest(bytes),
            size: bytes.len(),
            version: None,
            needs: None,
            imports: Vec::new(),
            exports: Vec::new(),
            functions: 0,
            code: 0,
        };
        within(bytes.len(), limits::COMPONENT_FILE, "bytes")?;
        if !bytes.starts_with(b"\0asm") {
            return Err(Refused::Malformed("it does not begin as WebAssembly does".to_owned()));
        }
        let malformed = |error: wasmparser::BinaryReaderError| Refused::Malformed(error.to_string());
        let (mut depth, mut parts) = (0_u32, 0_u32);
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(malformed)? {
                Payload::Version { encoding: wasmparser::Encoding::Module, .. } if depth == 0 => {
                    return Err(Refused::Module);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    depth += 1;
                    parts += 1;
                    within(parts as usize, limits::COMPONENT_PARTS as usize, "modules and components in it")?;
                    within(depth as usize, limits::COMPONENT_DEPTH as usize, "levels of components")?;
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CodeSectionStart { count, .. } => {
                    description.functions = description.functions.saturating_add(count);
                    within(description.functions as usize, limits::COMPONENT_FUNCTIONS as usize, "functions")?;
                }
                Payload::CodeSectionEntry(body) => {
                    description.code += body.range().len();
                    within(body.range().len(), limits::COMPONENT_FUNCTION, "bytes in one function")?;
                    within(description.code, limits::COMPONENT_CODE, "bytes of code")?;
                }
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports {
                        description.imports.push(import.map_err(malformed)?.name.name.to_owned());
                        within(description.imports.len(), limits::COMPONENT_NAMES, "imports")?;
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 0 => {
                    for export in exports {
                        description.exports.push(export.map_err(malformed)?.name.name.to_owned());
                        within(description.exports.len(), limits::COMPONENT_NAMES, "exports")?;
                    }
                }
                Payload::CustomSection(section) if depth == 0 && section.name() == "version" => {
                    within(section.data().len(), limits::COMPONENT_VERSION, "bytes of version")?;
                    description.version =
                        std::str::from_utf8(section.data()).ok().and_then(|text| Version::parse(text).ok());
                }
                Payload::CustomSection(section) if depth == 0 && section.name() == needs::SECTION => {
                    within(section.data().len(), limits::COMPONENT_NEEDS, "bytes of what it needs")?;
                    let needs = Needs::parse(section.data()).map_err(|why| Refused::Needs(why.to_string()))?;
                    description.needs = Some(needs);
                }
                _ => {}
            }
        }
        Ok(description)
    }

    /// The world that the component exports, and the version of the contract that it speaks.
    ///
    /// # Errors
    /// The component exports no world, or both.
    pub fn world(&self) -> Result<(World, Version), Refused> {
        let exported = |world: World| {
            self.exports.iter().find_map(|name| contract(name).filter(|(interface, _)| *interface == world.export()))
        };
        match (exported(World::Policy), exported(World::Extension)) {
            (Some((_, version)), None) => Ok((World::Policy, version)),
            (None, Some((_, version))) => Ok((World::Extension, version)),
            (None, None) => Err(Refused::NoWorld),
            (Some(_), Some(_)) => Err(Refused::BothWorlds),
        }
    }

    /// Checks that the component is of the expected world and of a version that links, and that it imports nothing else.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check(&self, expected: World) -> Result<(), Refused> {
        // First, so that an import of something outside the contract is always named, whatever else is wrong.
        if let Some(import) = self.imports.iter().find(|import| contract(import).is_none()) {
            return Err(Refused::ForeignImport { import: import.clone(), world: expected });
        }
        let (found, version) = self.world()?;
        let versions = self.imports.iter().filter_map(|import| contract(import)).map(|(_, version)| version);
        if let Some(found) = [version].into_iter().chain(versions).find(|version| version.major != CONTRACT.major) {
            return Err(Refused::OtherMajor { found });
        }
        if found != expected {
            return Err(Refused::OtherWorld { found, expected });
        }
        let missing =
            |import: &&String| contract(import).is_some_and(|(interface, _)| !expected.imports().contains(&interface));
        match self.imports.iter().find(missing) {
            Some(import) => Err(Refused::MissingImport { import: import.clone(), world: expected }),
            None => Ok(()),
        }
    }
}

/// The interface and the version in `docker-attestor:policy/INTERFACE@VERSION`.
fn contract(name: &str) -> Option<(&str, Version)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    Some((interface, Version::parse(version).ok()?))
}

fn within(found: usize, limit: usize, what: &str) -> Result<(), Refused> {
    match found <= limit {
        true => Ok(()),
        false => Err(Refused::TooMuch { what: format!("{found} {what}"), limit }),
    }
}
