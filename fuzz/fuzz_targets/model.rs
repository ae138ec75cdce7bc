//! Models and states of training: safetensors.

#![no_main]

fuzz::target!(fuzz::targets::model);
