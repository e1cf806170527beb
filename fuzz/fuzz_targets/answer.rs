#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secretlink_fuzz::answer::run(data));
