"""What training reads: data sets, crops cut from them, pairs, and scenes made by code."""
