"""Forecasting: pure models, calibration, backtest and selection. Knows no store, no clock, no cluster backend."""
