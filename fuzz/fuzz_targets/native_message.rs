#![no_main]
zapbus_fuzz::fuzz!("native_message");
