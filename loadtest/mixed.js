// Up to a thousand users and down again.
import { visitor } from './lib/journeys.js';
import { during } from './lib/scenario.js';

export const options = during('mixed');
export default visitor('mixed');
export { handleSummary } from './lib/scenario.js';
