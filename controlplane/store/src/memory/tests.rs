use crate::memory::Memory;
use crate::suite;

#[tokio::test]
async fn passes_the_suite() {
    suite::run_all(async || Memory::new()).await;
}
