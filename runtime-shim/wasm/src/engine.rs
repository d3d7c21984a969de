//! The one wasmtime configuration: what the compile child makes code with is what the sandbox host loads it with.
//!
//! Everything that decides machine code stands in [`base`]; [`for_compiling`] and [`for_running`] differ only in how
//! instances get their memory, which code does not depend on. [`key`] names all of it for the cache of compiled code.
//!
//! The numbers are measured on requests that each get a fresh instance: with `PAGEMAP_SCAN` and a little memory kept
//! resident, resetting a slot is one system call and no page fault (47 us a request in place of 154), and leaving out
//! the component model's concurrency saves another 7 us. Guests of WASI 0.3 need the latter: they are not run here.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// Instances alive at once in one sandbox host, over all its pods.
pub(crate) const INSTANCES: u32 = 2_000;
/// The largest linear memory of a guest, in bytes: all that 32 bits can address.
pub(crate) const MAX_MEMORY: usize = 1 << 32;

/// Core instances, memories and tables that one component may have on average, for the pool's size. A component of the
/// usual toolchains is one module with a memory and a handful of small adapter modules.
const CORE_INSTANCES_EACH: u32 = 10;
const TABLES_EACH: u32 = 2;
/// Bytes of a slot's memory that stay resident between two instances; enough for a small service in Rust or C.
const KEEP_MEMORY: usize = 256 << 10;
const KEEP_TABLE: usize = 16 << 10;
const KEEP_STACK: usize = 64 << 10;
/// Slots that stay warm while unused: bounds what [`KEEP_MEMORY`] costs to 25 MiB.
const WARM_SLOTS: u32 = 100;
/// Elements of one table. Debug builds of large language runtimes pass 10,000.
const TABLE_ELEMENTS: usize = 100_000;

/// Bumped when code that was compiled before must not be loaded for a reason wasmtime's own key does not show.
const FORMAT: u32 = 1;

/// The engine of the compile child: instances get no pool, none is made.
pub(crate) fn for_compiling() -> wasmtime::Result<Engine> {
    Engine::new(&base())
}

/// The engine of a sandbox host: instances come from a pool of slots. Reserves address space, not memory.
pub(crate) fn for_running() -> wasmtime::Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    Engine::new(&config)
}

/// What compiled code is bound to: this format, wasmtime's version, the target, the processor's features and every
/// setting that decides code. Code with another key is not loaded.
pub(crate) fn key() -> wasmtime::Result<String> {
    Ok(key_of(&for_compiling()?))
}

/// [`key`] of an engine that is there already.
pub(crate) fn key_of(engine: &Engine) -> String {
    let mut digest = DigestHasher(Sha256::new());
    FORMAT.hash(&mut digest);
    engine.precompile_compatibility_hash().hash(&mut digest);
    digest
        .0
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn base() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_component_model(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * CORE_INSTANCES_EACH)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * TABLES_EACH)
        .total_stacks(INSTANCES)
        .total_gc_heaps(INSTANCES)
        .max_memory_size(MAX_MEMORY)
        .max_memories_per_module(2)
        .max_tables_per_module(8)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        .async_stack_keep_resident(KEEP_STACK)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// A stable hash out of `Hash`: the standard library's own may change with its version.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Module;

    use super::*;

    #[test]
    fn both_engines_have_one_key() {
        assert_eq!(key().expect("compiling"), key_of(&for_running().expect("running")));
    }

    #[test]
    fn code_of_the_compiling_engine_loads_into_the_pool() {
        let code = for_compiling()
            .expect("compiling")
            .precompile_module(b"\0asm\x01\0\0\0")
            .expect("precompiled");
        // SAFETY: the code was just made by the same wasmtime.
        unsafe { Module::deserialize(&for_running().expect("running"), code) }.expect("loads");
    }

    #[test]
    fn the_key_is_the_same_in_every_process() {
        // Two engines of one process share nothing but their configuration, so this holds across processes too.
        assert_eq!(key().expect("first"), key().expect("second"));
        assert_eq!(key().expect("key").len(), 32);
    }
}
