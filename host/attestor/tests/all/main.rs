//! The program's tests in one test program, so that wasmtime is linked once. The tests that measure the memory of their
//! process are separate: `compiler` and `components`.

mod component;
mod machine;
mod stage;

mod anticipation;
mod contract;
mod extensions;
mod locator;
mod monitoring;
mod parent;
mod replace;
mod reuse;
mod sandbox;
mod scenarios;
mod sigstore_images;
mod sigstore_selectors;
mod storm;
mod trial;
mod validate;
mod work;
