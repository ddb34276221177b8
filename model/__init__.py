"""The law: what energy and time depend on. NumPy, SciPy, pandas, PyArrow; knows neither torch nor Ray."""
