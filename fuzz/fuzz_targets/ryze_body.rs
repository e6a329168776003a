#![no_main]
zapbus_fuzz::fuzz!("ryze_body");
