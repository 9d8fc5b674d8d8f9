// Users for hours: what grows and never shrinks?
import { visitor } from './lib/journeys.js';
import { during } from './lib/scenario.js';

export const options = during('endurance');
export default visitor('endurance');
export { handleSummary } from './lib/scenario.js';
