//! Has the crate built anew when the dashboard's own build appears or changes; `web-ui/dist` is in every checkout.

fn main() {
    println!("cargo::rerun-if-changed=../dist");
    println!("cargo::rerun-if-changed=build.rs");
}
