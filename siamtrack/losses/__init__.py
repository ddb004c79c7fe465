"""Losses: response, box and metric losses behind one signature, their labels and mining."""
