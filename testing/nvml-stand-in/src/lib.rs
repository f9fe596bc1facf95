//! A scriptable stand-in for libnvidia-ml.so, for machines without a GPU
