"""From a pushed commit to signed firmware: trains, quantises, generates C, compiles and signs."""
