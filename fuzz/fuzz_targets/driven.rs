#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secretlink_fuzz::driven::run(data));
