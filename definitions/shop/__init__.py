"""A web shop: what its users search, view, put into carts and buy.

Input is generated: ``sequence-platform generate-shop`` writes it below ``data/shop`` of the source
root, for the days from FIRST_DAY to LAST_DAY of ``sequence_platform.demo``.
"""
