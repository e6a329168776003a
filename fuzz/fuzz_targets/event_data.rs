#![no_main]
zapbus_fuzz::fuzz!("event_data");
